/* A mock OpenAI-compatible upstream: one thread, epoll, keep-alive. It answers every POST with a fixed JSON body, or, when
 * the request asks for a stream, with server-sent events of ~250 bytes, one write each, stamped with the monotonic clock.
 *
 *   mock -p PORT [-n EVENTS] [-i MICROSECONDS between events] [-D MICROSECONDS before the answer]
 *
 * GET /stats answers {"requests","streams","aborted","connections","cpu_us"}. A request whose body holds "mock:HABIT" gets
 * something else:
 *   every=US      a stream with this pause between its events
 *   hold          a stream that falls silent after its first event
 * and, for tests of endurance:
 *   500, 429      that status, with an error body (429 with Retry-After)
 *   reset         the connection is closed without a byte
 *   cut           the answer breaks off in its middle
 *   eof           a good answer without a length, ended by closing
 *   garbage       200 with a body that is no JSON, or a stream with an event that is none
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define IN_BYTES 262144
#define CHUNKED ((size_t)-1)

enum habit { GOOD, ERROR_500, ERROR_429, RESET, CUT, EOF_ENDED, GARBAGE };

struct connection {
    int fd;
    char *in;
    size_t used;
    char *out; /* what the socket did not take yet */
    size_t out_used, out_size;
    bool streaming, wants_stream, wants_vector, closing;
    enum habit habit;
    int events_left;
    uint64_t interval_ns;
    uint64_t due; /* when to write next, 0: nothing due */
};

static struct connection connections[MAX_FD];
static int due_fds[MAX_FD], due_count;
static int epoll_fd, timer_fd, event_count = 100, interval_us, delay_us;
static unsigned long requests, streams, aborted, open_connections;

static const char USAGE[] = "\"usage\":{\"prompt_tokens\":150,\"completion_tokens\":42,\"total_tokens\":192}";
static char whole_body[1024], whole[1400];
static char vector_body[4096], vector[4200];
static int whole_body_length, whole_length, vector_length;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void make_whole(void) {
    char text[300];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 7; i < 299; i += 8) text[i] = ' ';
    whole_body_length = snprintf(whole_body, sizeof whole_body,
                                 "{\"id\":\"chatcmpl-0123456789abcdef0123456789abc\",\"object\":\"chat.completion\","
                                 "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":"
                                 "{\"role\":\"assistant\",\"content\":\"%.232s\"},\"finish_reason\":\"stop\"}],%s}", text, USAGE);
    whole_length = snprintf(whole, sizeof whole, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                            whole_body_length, whole_body);
}

/* The answer to a request for embeddings: one vector of 256 numbers. */
static void make_vector(void) {
    int n = snprintf(vector_body, sizeof vector_body,
                     "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[");
    for (int i = 0; i < 256; i++)
        n += snprintf(vector_body + n, sizeof vector_body - n, "%s%.8f", i ? "," : "", 0.5 / (i + 1));
    n += snprintf(vector_body + n, sizeof vector_body - n,
                  "]}],\"model\":\"mock\",\"usage\":{\"prompt_tokens\":150,\"total_tokens\":150}}");
    vector_length = snprintf(vector, sizeof vector, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                             n, vector_body);
}

static void drop(struct connection *c) {
    if (c->streaming) aborted++;
    close(c->fd);
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    c->fd = -1;
    open_connections--;
}

static void watch(struct connection *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.fd = c->fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* False: the connection is gone. What the socket does not take waits until it does. */
static bool put(struct connection *c, const char *data, size_t length) {
    while (length && !c->out_used) {
        ssize_t n = send(c->fd, data, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) { drop(c); return false; }
        data += n;
        length -= n;
    }
    if (!length) return true;
    if (!c->out_used) watch(c, EPOLLIN | EPOLLOUT);
    if (c->out_used + length > c->out_size) c->out = realloc(c->out, c->out_size = (c->out_used + length) * 2);
    memcpy(c->out + c->out_used, data, length);
    c->out_used += length;
    return true;
}

static void schedule(struct connection *c, uint64_t at) {
    if (!c->due) due_fds[due_count++] = c->fd;
    c->due = at;
}

static bool write_chunk(struct connection *c, const char *text, int length) {
    char chunk[1200];
    return put(c, chunk, snprintf(chunk, sizeof chunk, "%x\r\n%.*s\r\n", length, length, text));
}

static bool write_event(struct connection *c) {
    char json[1000];
    int n;
    if (c->events_left <= event_count / 2) {
        if (c->habit == CUT) { drop(c); return false; }
        if (c->habit == GARBAGE) {
            c->habit = GOOD;
            return write_chunk(c, "data: {\"choices\":[{\"del\n\n", 24);
        }
    }
    if (c->events_left == 0) {
        n = snprintf(json, sizeof json,
                     "data: {\"id\":\"chatcmpl-m\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
                     "\"mock\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],%s}\n\ndata: [DONE]\n\n",
                     USAGE);
        char last[1200];
        c->streaming = false;
        return put(c, last, snprintf(last, sizeof last, "%x\r\n%s\r\n0\r\n\r\n", n, json));
    }
    bool first = c->events_left == event_count;
    c->events_left--;
    n = snprintf(json, sizeof json,
                 "data: {\"id\":\"chatcmpl-m\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\","
                 "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"T%019llu lorem ipsum dolor sit amet \"},"
                 "\"finish_reason\":null}]}\n\n",
                 first ? "\"role\":\"assistant\"," : "", (unsigned long long)now_ns());
    return write_chunk(c, json, n);
}

/* Without a pause: as much as the socket takes; the rest when it takes more. */
static void pour(struct connection *c) {
    while (c->fd >= 0 && c->streaming && !c->out_used)
        if (!write_event(c)) return;
}

static void begin_stream(struct connection *c) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    streams++;
    c->streaming = true;
    c->events_left = event_count;
    if (!put(c, head, sizeof head - 1)) return;
    if (!c->interval_ns) pour(c);
    else if (write_event(c)) schedule(c, now_ns() + c->interval_ns);
}

static void refuse(struct connection *c, const char *status, const char *header) {
    static const char body[] = "{\"error\":{\"message\":\"The mock was told to refuse.\",\"type\":\"mock\",\"code\":\"mock\"}}";
    char out[400];
    put(c, out, snprintf(out, sizeof out, "HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n%s",
                         status, header, sizeof body - 1, body));
}

static void answer(struct connection *c) {
    static const char eof_head[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    static const char garbage[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n<html>no!";
    requests++;
    switch (c->habit) {
    case RESET: drop(c); return;
    case ERROR_500: refuse(c, "500 Internal Server Error", ""); return;
    case ERROR_429: refuse(c, "429 Too Many Requests", "retry-after: 1\r\n"); return;
    default: break;
    }
    if (c->wants_vector) { put(c, vector, vector_length); return; }
    if (c->wants_stream) { begin_stream(c); return; }
    switch (c->habit) {
    case CUT:
        if (put(c, whole, whole_length / 2)) drop(c);
        return;
    case EOF_ENDED:
        if (put(c, eof_head, sizeof eof_head - 1) && put(c, whole_body, whole_body_length)) c->closing = true;
        return;
    case GARBAGE: put(c, garbage, sizeof garbage - 1); return;
    default: put(c, whole, whole_length);
    }
}

static void tell(struct connection *c, bool is_stats) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    char body[300], out[500];
    int n;
    if (is_stats)
        n = snprintf(body, sizeof body, "{\"requests\":%lu,\"streams\":%lu,\"aborted\":%lu,\"connections\":%lu,\"cpu_us\":%llu}",
                     requests, streams, aborted, open_connections,
                     (unsigned long long)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ull + u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    else
        n = snprintf(body, sizeof body, "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,"
                                        "\"owned_by\":\"mock\"}]}");
    put(c, out, snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body));
}

static void read_habit(struct connection *c, const char *body, size_t length) {
    const char *found = memmem(body, length, "mock:", 5);
    c->habit = GOOD;
    c->interval_ns = interval_us * 1000ull;
    if (!found || body + length - found < 9) return;
    found += 5;
    if (!memcmp(found, "500", 3)) c->habit = ERROR_500;
    else if (!memcmp(found, "429", 3)) c->habit = ERROR_429;
    else if (!memcmp(found, "reset", 5)) c->habit = RESET;
    else if (!memcmp(found, "cut", 3)) c->habit = CUT;
    else if (!memcmp(found, "eof", 3)) c->habit = EOF_ENDED;
    else if (!memcmp(found, "garbage", 7)) c->habit = GARBAGE;
    else if (!memcmp(found, "every=", 6)) c->interval_ns = strtoull(found + 6, NULL, 10) * 1000ull;
    else if (!memcmp(found, "hold", 4)) c->interval_ns = 3600000000000ull;
}

/* The body's length, or CHUNKED. */
static size_t framed(char *head, char *end) {
    char held = *end;
    *end = 0;
    const char *length = strcasestr(head, "\r\ncontent-length:");
    const char *coding = strcasestr(head, "\r\ntransfer-encoding: chunked");
    size_t found = coding ? CHUNKED : length ? strtoul(length + 17, NULL, 10) : 0;
    *end = held;
    return found;
}

/* Answers every whole request in the buffer, one after the other, and keeps what follows. */
static void consume(struct connection *c) {
    while (c->fd >= 0 && c->used && !c->streaming && !c->due) {
        char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
        if (!end) return;
        size_t head = end + 4 - c->in, body = framed(c->in, end);
        if (body == CHUNKED) {
            char *last = memmem(end, c->used - (end - c->in), "\r\n0\r\n\r\n", 7);
            if (!last) return;
            body = last + 7 - c->in - head;
        }
        if (c->used - head < body) return;
        if (!strncmp(c->in, "GET ", 4)) {
            tell(c, !strncmp(c->in + 4, "/stats", 6));
        } else {
            const char *text = c->in + head;
            read_habit(c, text, body);
            char *line_end = memchr(c->in, '\r', head);
            c->wants_vector = memmem(c->in, line_end - c->in, "/embeddings", 11) != NULL;
            c->wants_stream = memmem(text, body, "\"stream\":true", 13) || memmem(text, body, "\"stream\": true", 14);
            if (delay_us) schedule(c, now_ns() + delay_us * 1000ull);
            else answer(c);
        }
        if (c->fd < 0) return;
        memmove(c->in, c->in + head + body, c->used - head - body);
        c->used -= head + body;
    }
}

static void settle(struct connection *c) {
    if (c->fd >= 0 && c->closing && !c->out_used) drop(c);
}

static void readable(struct connection *c) {
    for (;;) {
        if (c->used == IN_BYTES) { drop(c); return; }
        ssize_t n = recv(c->fd, c->in + c->used, IN_BYTES - c->used, 0);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) { drop(c); return; }
        c->used += n;
        c->in[c->used] = 0;
        if (c->used < IN_BYTES) break; /* epoll tells of more */
    }
    consume(c);
    settle(c);
}

static void writable(struct connection *c) {
    ssize_t n = send(c->fd, c->out, c->out_used, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { drop(c); return; }
    memmove(c->out, c->out + n, c->out_used - n);
    c->out_used -= n;
    if (c->out_used) return;
    watch(c, EPOLLIN);
    if (c->streaming && !c->interval_ns) pour(c);
    if (c->fd >= 0 && !c->streaming) consume(c);
    settle(c);
}

/* Does what is due, and sets the timer for what is due next. */
static void run_due(void) {
    static int held[MAX_FD];
    uint64_t now = now_ns(), next = 0;
    int count = due_count;
    memcpy(held, due_fds, count * sizeof *held);
    due_count = 0;
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[held[i]];
        if (c->fd < 0 || !c->due) continue;
        if (c->due > now) { due_fds[due_count++] = c->fd; continue; }
        uint64_t at = c->due;
        c->due = 0;
        if (!c->streaming) answer(c);
        else if (write_event(c) && c->streaming) schedule(c, at + c->interval_ns);
        if (c->fd >= 0 && !c->streaming && !c->due) consume(c);
        settle(c);
    }
    for (int i = 0; i < due_count; i++) {
        uint64_t at = connections[due_fds[i]].due;
        if (at && (!next || at < next)) next = at;
    }
    struct itimerspec when = {.it_value = {.tv_sec = next / 1000000000ull, .tv_nsec = next % 1000000000ull}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void take_in(int listener) {
    int accepted, yes = 1;
    while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (accepted >= MAX_FD) { close(accepted); continue; }
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *c = &connections[accepted];
        memset(c, 0, sizeof *c);
        c->fd = accepted;
        c->in = malloc(IN_BYTES + 1);
        open_connections++;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = accepted};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, accepted, &e);
    }
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
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < MAX_FD; i++) connections[i].fd = -1;
    make_whole();
    make_vector();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) { perror("mock"); return 1; }
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &interest);
    interest.data.fd = timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &interest);
    for (;;) {
        if (due_count) run_due();
        int count = epoll_wait(epoll_fd, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            uint64_t expirations;
            if (fd == listener) take_in(listener);
            else if (fd == timer_fd) (void)!read(timer_fd, &expirations, sizeof expirations);
            else {
                struct connection *c = &connections[fd];
                if (c->fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
                if (c->fd >= 0 && ready[i].events & EPOLLOUT && c->out_used) writable(c);
            }
        }
    }
}
