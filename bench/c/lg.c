/* A load generator: one thread, epoll, keep-alive. Prints one JSON line.
 *
 *   lg -p PORT -u PATH -b BODYFILE [-H 'Name: value']... [-c CONNECTIONS] [-d SECONDS] [-w WARMUP SECONDS]
 *      [-r RATE]   open loop: Poisson arrivals at RATE per second, latency from the moment a request was due
 *      [-s]        the answer is a stream: counts events, time to first byte, and the delay of events stamped T<ns>
 *      [-n COUNT]  stop after COUNT requests (for counting instructions)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_BYTES 262144

struct connection {
    int fd;
    bool busy, head_done, chunked, first_seen;
    char in[IN_BYTES];
    size_t used, sent;
    long long body_left; /* of a body with a length */
    uint64_t due, started;
};

static struct connection *connections;
static int epoll_fd, port, connection_count = 16;
static char *request;
static size_t request_length;
static bool is_stream;
static double rate;
static uint64_t measure_from, measure_to;
static unsigned long done, errors, non2xx, chunks, requests_limit, total_done;
static double *latencies, *first_bytes, *delays;
static size_t latency_count, first_count, delay_count;
#define SAMPLES 4000000

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void dial(struct connection *c) {
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { perror("lg: connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    int flags = SOCK_NONBLOCK;
    (void)flags;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    c->busy = false;
    c->used = 0;
}

static void begin(struct connection *c, uint64_t due) {
    c->busy = true;
    c->head_done = c->chunked = c->first_seen = false;
    c->used = 0;
    c->due = due;
    c->started = now_ns();
    size_t sent = 0;
    while (sent < request_length) {
        ssize_t n = send(c->fd, request + sent, request_length - sent, MSG_NOSIGNAL);
        if (n <= 0) { errors++; close(c->fd); dial(c); return; }
        sent += n;
    }
}

static void keep(double *where, size_t *count, double value) {
    if (*count < SAMPLES) where[(*count)++] = value;
}

static void finish(struct connection *c) {
    uint64_t now = now_ns();
    c->busy = false;
    total_done++;
    if (now >= measure_from && now < measure_to) {
        done++;
        keep(latencies, &latency_count, (now - c->due) / 1e3);
    }
}

static void stamps(struct connection *c, const char *data, size_t length, uint64_t now) {
    const char *at = data, *end = data + length;
    while ((at = memmem(at, end - at, "\"T", 2)) && end - at > 21) {
        uint64_t made = strtoull(at + 2, NULL, 10);
        if (made && now >= measure_from && now < measure_to) {
            chunks++;
            if (now > made) keep(delays, &delay_count, (now - made) / 1e3);
        }
        at += 21;
    }
    (void)c;
}

static void head(struct connection *c) {
    char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
    if (!end) return;
    size_t length = end + 4 - c->in;
    *end = 0;
    if (c->in[9] != '2') non2xx++;
    const char *size = strcasestr(c->in, "\r\ncontent-length:");
    c->chunked = !size;
    c->body_left = size ? strtoll(size + 17, NULL, 10) : 0;
    c->head_done = true;
    memmove(c->in, c->in + length, c->used - length);
    c->used -= length;
}

static void readable(struct connection *c) {
    ssize_t n = recv(c->fd, c->in + c->used, IN_BYTES - 1 - c->used, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (c->busy) errors++;
        close(c->fd);
        dial(c);
        if (!rate) begin(c, now_ns());
        return;
    }
    uint64_t now = now_ns();
    c->used += n;
    c->in[c->used] = 0;
    if (!c->busy) { c->used = 0; return; }
    if (!c->head_done) head(c);
    if (!c->head_done) return;
    if (c->used && !c->first_seen) {
        c->first_seen = true;
        if (now >= measure_from && now < measure_to) keep(first_bytes, &first_count, (now - c->due) / 1e3);
    }
    bool over;
    if (c->chunked) {
        if (is_stream) stamps(c, c->in, c->used, now);
        over = c->used >= 5 && !memcmp(c->in + c->used - 5, "0\r\n\r\n", 5);
        if (!over && c->used > 64) { /* only the tail matters from here on */
            memmove(c->in, c->in + c->used - 8, 8);
            c->used = 8;
        }
    } else {
        c->body_left -= c->used;
        c->used = 0;
        over = c->body_left <= 0;
    }
    if (!over) return;
    finish(c);
    if (requests_limit && total_done >= requests_limit) return;
    if (!rate) begin(c, now_ns());
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at(double *values, size_t count, double share) {
    return count ? values[(size_t)(share * (count - 1))] : 0;
}

int main(int argc, char **argv) {
    const char *path = "/", *body_file = NULL;
    char headers[8192] = "";
    double seconds = 3, warmup = 1;
    int option;
    while ((option = getopt(argc, argv, "p:u:b:H:c:d:w:r:sn:")) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'b': body_file = optarg; break;
        case 'H': strcat(headers, optarg); strcat(headers, "\r\n"); break;
        case 'c': connection_count = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 's': is_stream = true; break;
        case 'n': requests_limit = strtoul(optarg, NULL, 10); break;
        default: return 2;
        }
    }
    static char body[4 << 20];
    size_t body_length = 0;
    if (body_file) {
        FILE *file = fopen(body_file, "rb");
        if (!file) { perror(body_file); return 1; }
        body_length = fread(body, 1, sizeof body, file);
        fclose(file);
    }
    request = malloc(body_length + 16384);
    int head_length = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
                              "User-Agent: modelport-bench\r\n%sContent-Length: %zu\r\n\r\n", path, port, headers, body_length);
    memcpy(request + head_length, body, body_length);
    request_length = head_length + body_length;
    latencies = malloc(SAMPLES * sizeof(double));
    first_bytes = malloc(SAMPLES * sizeof(double));
    delays = malloc(SAMPLES * sizeof(double));
    epoll_fd = epoll_create1(0);
    connections = calloc(connection_count, sizeof *connections);
    for (int i = 0; i < connection_count; i++) dial(&connections[i]);
    uint64_t begin_at = now_ns();
    measure_from = begin_at + (uint64_t)(warmup * 1e9);
    measure_to = measure_from + (uint64_t)(seconds * 1e9);
    uint64_t next_due = begin_at;
    srand48(7);
    if (!rate)
        for (int i = 0; i < connection_count; i++) begin(&connections[i], now_ns());
    struct epoll_event ready[256];
    while (now_ns() < measure_to && !(requests_limit && total_done >= requests_limit)) {
        if (rate) {
            uint64_t now = now_ns();
            int free_at = 0;
            while (next_due <= now) {
                while (free_at < connection_count && connections[free_at].busy) free_at++;
                if (free_at == connection_count) break; /* stays due: counted from then on */
                begin(&connections[free_at], next_due);
                next_due += (uint64_t)(-log(1 - drand48()) / rate * 1e9);
            }
        }
        int count = epoll_wait(epoll_fd, ready, 256, rate ? 0 : 100);
        for (int i = 0; i < count; i++) readable(ready[i].data.ptr);
    }
    uint64_t ended = now_ns();
    double span = ((ended < measure_to ? ended : measure_to) - measure_from) / 1e9;
    qsort(latencies, latency_count, sizeof(double), ascending);
    qsort(first_bytes, first_count, sizeof(double), ascending);
    qsort(delays, delay_count, sizeof(double), ascending);
    printf("{\"requests\":%lu,\"total\":%lu,\"seconds\":%.3f,\"rps\":%.1f,\"errors\":%lu,\"non2xx\":%lu,\"p50_us\":%.1f,\"p90_us\":%.1f,"
           "\"p99_us\":%.1f,\"ttfb_p50_us\":%.1f,\"ttfb_p99_us\":%.1f,\"chunks\":%lu,\"chunk_p50_us\":%.1f,\"chunk_p99_us\":%.1f}\n",
           done, total_done, span, span > 0 ? done / span : 0, errors, non2xx, at(latencies, latency_count, .5), at(latencies, latency_count, .9),
           at(latencies, latency_count, .99), at(first_bytes, first_count, .5), at(first_bytes, first_count, .99), chunks,
           at(delays, delay_count, .5), at(delays, delay_count, .99));
    return 0;
}
