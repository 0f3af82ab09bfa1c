/* A mock OpenAI-compatible upstream: one thread, epoll, keep-alive. It answers every POST with a fixed JSON body, or, when
 * the request asks for a stream, with server-sent events of ~250 bytes, each stamped with the monotonic clock.
 *
 *   mock -p PORT [-n EVENTS] [-i MICROSECONDS between events] [-D MICROSECONDS before the answer]
 *
 * GET /stats answers {"requests","streams","aborted","connections","cpu_us"}.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define IN_BYTES 65536

struct connection {
    int fd;
    char *in;
    size_t used, need; /* need: total bytes of the request once its head is known, 0 before */
    size_t seen;       /* body bytes already dropped of a body that is larger than the buffer */
    bool streaming, wants_stream;
    int events_left;
    uint64_t due; /* when to write next, 0: nothing due */
};

static struct connection connections[MAX_FD];
static int due_fds[MAX_FD], due_count;
static int epoll_fd, event_count = 100, interval_us, delay_us;
static unsigned long requests, streams, aborted, open_connections;

static const char USAGE[] = "\"usage\":{\"prompt_tokens\":150,\"completion_tokens\":42,\"total_tokens\":192}";
static char whole[1024];
static size_t whole_length;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void make_whole(void) {
    char body[800], text[300];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 7; i < 299; i += 8) text[i] = ' ';
    int n = snprintf(body, sizeof body,
                     "{\"id\":\"chatcmpl-0123456789abcdef0123456789abc\",\"object\":\"chat.completion\","
                     "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":"
                     "{\"role\":\"assistant\",\"content\":\"%.232s\"},\"finish_reason\":\"stop\"}],%s}", text, USAGE);
    whole_length = snprintf(whole, sizeof whole,
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
}

static void drop(struct connection *c) {
    if (c->streaming) aborted++;
    close(c->fd);
    free(c->in);
    memset(c, 0, sizeof *c);
    c->fd = -1;
    open_connections--;
}

static bool put(struct connection *c, const char *data, size_t length) {
    while (length) {
        ssize_t n = send(c->fd, data, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { usleep(50); continue; }
        if (n <= 0) { drop(c); return false; }
        data += n;
        length -= n;
    }
    return true;
}

static void schedule(struct connection *c, uint64_t at) {
    if (!c->due) due_fds[due_count++] = c->fd;
    c->due = at;
}

static bool write_event(struct connection *c) {
    static const char pad[] = "lorem ipsum dolor sit amet ";
    char json[600], chunk[700];
    int n;
    if (c->events_left == 0) {
        n = snprintf(json, sizeof json,
                     "data: {\"id\":\"chatcmpl-m\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
                     "\"mock\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],%s}\n\ndata: [DONE]\n\n",
                     USAGE);
        int m = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n0\r\n\r\n", n, json);
        c->streaming = false;
        return put(c, chunk, m);
    }
    bool first = c->events_left == event_count;
    c->events_left--;
    n = snprintf(json, sizeof json,
                 "data: {\"id\":\"chatcmpl-m\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\","
                 "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"T%019llu %s\"},\"finish_reason\":null}]}\n\n",
                 first ? "\"role\":\"assistant\"," : "", (unsigned long long)now_ns(), pad);
    int m = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", n, json);
    return put(c, chunk, m);
}

static void begin_stream(struct connection *c) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    streams++;
    c->streaming = true;
    c->events_left = event_count;
    if (!put(c, head, sizeof head - 1)) return;
    if (interval_us) { if (write_event(c)) schedule(c, now_ns() + interval_us * 1000ull); return; }
    while (c->fd >= 0 && c->streaming)
        if (!write_event(c)) return;
}

static void answer(struct connection *c) {
    requests++;
    if (c->wants_stream) begin_stream(c);
    else put(c, whole, whole_length);
}

static void stats(struct connection *c) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    char body[300], out[500];
    int n = snprintf(body, sizeof body, "{\"requests\":%lu,\"streams\":%lu,\"aborted\":%lu,\"connections\":%lu,\"cpu_us\":%llu}",
                     requests, streams, aborted, open_connections,
                     (unsigned long long)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ull + u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    int m = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
    put(c, out, m);
}

static size_t content_length(const char *head) {
    const char *found = strcasestr(head, "\r\ncontent-length:");
    return found ? strtoul(found + 17, NULL, 10) : 0;
}

/* One whole request in the buffer? Answers it and keeps what follows. */
static void consume(struct connection *c) {
    while (c->fd >= 0 && c->used) {
        c->in[c->used] = 0;
        char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
        if (!end) return;
        size_t head = end + 4 - c->in;
        *end = 0;
        size_t body = content_length(c->in);
        *end = '\r';
        if (c->used - head < body) return;
        if (!strncmp(c->in, "GET ", 4)) {
            requests += 0;
            stats(c);
        } else {
            c->wants_stream = memmem(c->in + head, body, "\"stream\":true", 13) || memmem(c->in + head, body, "\"stream\": true", 14);
            if (delay_us) schedule(c, now_ns() + delay_us * 1000ull);
            else answer(c);
        }
        if (c->fd < 0) return;
        memmove(c->in, c->in + head + body, c->used - head - body);
        c->used -= head + body;
    }
}

static void readable(struct connection *c) {
    for (;;) {
        if (c->used >= IN_BYTES * 4 - 1) { drop(c); return; }
        ssize_t n = recv(c->fd, c->in + c->used, IN_BYTES * 4 - 1 - c->used, 0);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) { drop(c); return; }
        c->used += n;
    }
    consume(c);
}

static int run_due(void) { /* milliseconds until the next is due, -1: none */
    uint64_t now = now_ns(), next = 0;
    int count = due_count;
    due_count = 0;
    static int later[MAX_FD];
    int kept = 0;
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[due_fds[i]];
        if (c->fd < 0 || !c->due) continue;
        if (c->due > now) { later[kept++] = c->fd; if (!next || c->due < next) next = c->due; continue; }
        uint64_t at = c->due;
        c->due = 0;
        if (!c->streaming) answer(c);
        else if (write_event(c) && c->streaming) {
            c->due = at + interval_us * 1000ull;
            later[kept++] = c->fd;
            if (!next || c->due < next) next = c->due;
        }
    }
    for (int i = 0; i < due_count; i++) {
        struct connection *c = &connections[due_fds[i]];
        if (!next || c->due < next) next = c->due;
    }
    memcpy(due_fds + due_count, later, kept * sizeof *later);
    due_count += kept;
    if (!due_count) return -1;
    now = now_ns();
    return next <= now ? 0 : (int)((next - now) / 1000000ull);
}

int main(int argc, char **argv) {
    int port = 0, option, yes = 1;
    while ((option = getopt(argc, argv, "p:n:i:D:")) != -1) {
        if (option == 'p') port = atoi(optarg);
        else if (option == 'n') event_count = atoi(optarg);
        else if (option == 'i') interval_us = atoi(optarg);
        else if (option == 'D') delay_us = atoi(optarg);
        else return 2;
    }
    for (int i = 0; i < MAX_FD; i++) connections[i].fd = -1;
    make_whole();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) { perror("mock"); return 1; }
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_fd = epoll_create1(0);
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &interest);
    for (;;) {
        int wait = run_due();
        int count = epoll_wait(epoll_fd, ready, 256, wait);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) { if (connections[fd].fd >= 0) readable(&connections[fd]); continue; }
            int accepted;
            while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (accepted >= MAX_FD) { close(accepted); continue; }
                setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                struct connection *c = &connections[accepted];
                memset(c, 0, sizeof *c);
                c->fd = accepted;
                c->in = malloc(IN_BYTES * 4);
                open_connections++;
                struct epoll_event e = {.events = EPOLLIN, .data.fd = accepted};
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, accepted, &e);
            }
        }
    }
}
