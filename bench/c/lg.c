/* A load generator: one thread, epoll. Prints one JSON line.
 *
 *   lg -p PORT -u PATH -b BODYFILE [-H 'Name: value']... [-c CONNECTIONS] [-d SECONDS] [-w WARM-UP SECONDS]
 *      [-r RATE]   open loop: Poisson arrivals at RATE per second, latency from the moment a request was due
 *      [-s]        the answer is a stream: time to the first body byte, and the delay of each event stamped "T<ns>"
 *      [-k]        a new connection for each request
 *      [-g US]     the first requests begin at random within so many microseconds, not all at once
 *      [-x SHARE]  hangs up on this share of the requests: before the answer, or in its middle
 *      [-n COUNT]  stop after COUNT requests
 *
 * Closed loop unless -r: each connection sends its next request when it has the whole answer. What is done in the warm-up
 * counts in "total" alone. "errors" are connections that broke under a request, "statuses" has every answer of the
 * measured time, "unfinished" counts streams without [DONE], "waiting" what was under way at the end.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define IN_BYTES 262144
#define HEAD_BYTES 8192
#define STAMP_BYTES 22 /* a quote, T, 19 digits, and what follows */
#define TAIL_BYTES (STAMP_BYTES - 1)
#define SAMPLES 4000000

enum framing { HEAD, LENGTH, SIZE_LINE, CHUNK, CHUNK_END, TRAILER, UNTIL_EOF };

struct connection {
    int fd;
    bool busy, wants_out, body_seen, done_seen, ends, hangs_up;
    enum framing framing;
    char head[HEAD_BYTES], tail[TAIL_BYTES];
    size_t head_used, tail_used, sent, left, line;
    int status;
    uint64_t due;
};

static struct connection *connections;
static int epoll_fd, timer_fd, port, connection_count = 16;
static char *request, in[IN_BYTES];
static size_t request_length;
static bool is_stream, is_churn;
static double rate, hang_up_share;
static uint64_t measure_from, measure_to, spread_us, *starts;
static unsigned long done, errors, chunks, total_chunks, requests_limit, total_done, dials, hang_ups, unfinished, statuses[600];
static double *latencies, *first_bytes, *delays;
static size_t latency_count, first_count, delay_count;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static bool is_measured(uint64_t now) { return now >= measure_from && now < measure_to; }

static void keep(double *where, size_t *count, double value) {
    if (*count < SAMPLES) where[(*count)++] = value;
}

static void dial(struct connection *c) {
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) { perror("lg: socket"); exit(1); }
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (is_churn) { /* one address has too few ports for a new connection each time */
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + dials % 200);
        bind(c->fd, (struct sockaddr *)&address, sizeof address);
    }
    dials++;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) { perror("lg: connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    c->wants_out = true;
    c->busy = false;
}

static void redial(struct connection *c) {
    close(c->fd);
    dial(c);
}

static void watch(struct connection *c, bool wants_out) {
    if (c->wants_out == wants_out) return;
    c->wants_out = wants_out;
    struct epoll_event e = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void begin(struct connection *c, uint64_t due);

static void again(struct connection *c) {
    if (requests_limit && total_done >= requests_limit) return;
    if (!rate) begin(c, now_ns());
}

static void broken(struct connection *c) {
    if (c->busy) errors++;
    bool was_busy = c->busy;
    redial(c);
    if (was_busy) again(c);
}

static void transmit(struct connection *c) {
    while (c->sent < request_length) {
        ssize_t n = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) { watch(c, true); return; }
        if (n <= 0) { broken(c); return; }
        c->sent += n;
    }
    watch(c, false);
}

static void begin(struct connection *c, uint64_t due) {
    c->busy = true;
    c->body_seen = c->done_seen = c->ends = false;
    c->framing = HEAD;
    c->head_used = c->tail_used = c->sent = 0;
    c->due = due;
    c->hangs_up = hang_up_share && drand48() < hang_up_share;
    transmit(c);
    if (c->hangs_up && drand48() < .3 && c->sent == request_length) {
        hang_ups++;
        redial(c);
        begin(c, now_ns());
    }
}

static void finish(struct connection *c) {
    uint64_t now = now_ns();
    c->busy = false;
    total_done++;
    if (is_measured(now)) {
        done++;
        statuses[c->status]++;
        keep(latencies, &latency_count, (now - c->due) / 1e3);
        if (is_stream && c->status == 200 && !c->done_seen) unfinished++;
    }
    if (c->ends || is_churn) redial(c);
    again(c);
}

/* One stretch of an event stream: its stamps, and whether it is the last. */
static void stamps(struct connection *c, const char *data, size_t length, uint64_t now) {
    const char *at = data, *end = data + length;
    while ((at = memmem(at, end - at, "\"T", 2)) && end - at >= STAMP_BYTES) {
        uint64_t made = strtoull(at + 2, NULL, 10);
        if (made) total_chunks++;
        if (made && is_measured(now)) {
            chunks++;
            if (now > made) keep(delays, &delay_count, (now - made) / 1e3);
        }
        at += STAMP_BYTES;
    }
    if (memmem(data, length, "[DONE]", 6)) c->done_seen = true;
}

/* As `stamps`, but finds what the cut between two reads goes through. */
static void look(struct connection *c, const char *data, size_t length, uint64_t now) {
    if (c->tail_used) {
        char seam[TAIL_BYTES * 2];
        size_t more = length < TAIL_BYTES ? length : TAIL_BYTES;
        memcpy(seam, c->tail, c->tail_used);
        memcpy(seam + c->tail_used, data, more);
        if (memmem(seam, c->tail_used + more, "[DONE]", 6)) c->done_seen = true;
        const char *at = memmem(seam, c->tail_used + 1, "\"T", 2);
        if (at && seam + c->tail_used + more - at >= STAMP_BYTES) stamps(c, at, STAMP_BYTES, now);
    }
    stamps(c, data, length, now);
    size_t kept = length < TAIL_BYTES ? length : TAIL_BYTES;
    memcpy(c->tail, data + length - kept, kept);
    c->tail_used = kept;
}

/* The answer's body. False: hung up on it. */
static bool body(struct connection *c, const char *data, size_t length) {
    uint64_t now = now_ns();
    if (!c->body_seen) {
        c->body_seen = true;
        if (is_measured(now)) keep(first_bytes, &first_count, (now - c->due) / 1e3);
        if (c->hangs_up) {
            hang_ups++;
            redial(c);
            again(c);
            return false;
        }
    }
    if (is_stream) look(c, data, length, now);
    return true;
}

/* Takes bytes of a head until it is whole. Returns how many. */
static size_t head(struct connection *c, const char *data, size_t length) {
    size_t room = HEAD_BYTES - 1 - c->head_used, taken = length < room ? length : room, before = c->head_used;
    memcpy(c->head + before, data, taken);
    c->head_used += taken;
    char *end = memmem(c->head, c->head_used, "\r\n\r\n", 4);
    if (!end) return taken;
    end[2] = 0;
    size_t whole = end + 4 - c->head;
    c->status = atoi(c->head + 9);
    if (c->status < 100 || c->status > 599) c->status = 0;
    c->ends = strcasestr(c->head, "\r\nconnection: close") != NULL;
    const char *size = strcasestr(c->head, "\r\ncontent-length:");
    c->left = size ? strtoull(size + 17, NULL, 10) : 0;
    c->line = 0;
    if (c->status == 100) { c->head_used = 0; return whole - before; }
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) c->framing = SIZE_LINE;
    else c->framing = size || c->status == 204 || c->status == 304 ? LENGTH : UNTIL_EOF;
    return whole - before;
}

/* Goes through what was read. Returns when the answer is over, or the bytes are used up. */
static void digest(struct connection *c, const char *data, size_t length) {
    while (true) {
        if (c->framing == LENGTH && !c->left) { finish(c); return; }
        if (!length) return;
        size_t taken = 1;
        switch (c->framing) {
        case HEAD:
            taken = head(c, data, length);
            if (!taken) { broken(c); return; } /* too long a head */
            break;
        case LENGTH:
        case CHUNK:
            taken = length < c->left ? length : c->left;
            if (!body(c, data, taken)) return;
            c->left -= taken;
            if (c->framing == CHUNK && !c->left) c->framing = CHUNK_END;
            break;
        case SIZE_LINE:
            if (*data == '\n') {
                c->framing = c->left ? CHUNK : TRAILER;
                c->line = 0;
            } else if (*data == ';') c->line = 100; /* an extension: read over */
            else if (*data != '\r' && c->line++ < 16) {
                c->left = c->left * 16 + (*data <= '9' ? *data - '0' : (*data | 32) - 'a' + 10);
            }
            break;
        case CHUNK_END:
            if (*data == '\n') c->framing = SIZE_LINE;
            break;
        case TRAILER:
            if (*data == '\n') {
                if (!c->line) { finish(c); return; }
                c->line = 0;
            } else if (*data != '\r') c->line++;
            break;
        case UNTIL_EOF:
            taken = length;
            if (!body(c, data, taken)) return;
            break;
        }
        data += taken;
        length -= taken;
    }
}

static void readable(struct connection *c) {
    ssize_t n = recv(c->fd, in, IN_BYTES, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0 && c->busy) { digest(c, in, n); return; }
    if (n == 0 && c->busy && c->framing == UNTIL_EOF) { c->ends = true; finish(c); return; }
    broken(c); /* also bytes that nobody asked for */
}

/* Begins what is due: requests of the open loop, or the first one of each connection. */
static void run_due(uint64_t now, uint64_t *next_due) {
    static int started;
    if (!rate) {
        while (started < connection_count && starts[started] <= now) begin(&connections[started++], now);
        *next_due = started < connection_count ? starts[started] : 0;
        return;
    }
    int free_at = 0;
    while (*next_due <= now) {
        while (free_at < connection_count && connections[free_at].busy) free_at++;
        if (free_at == connection_count) return; /* stays due: counted from then on */
        begin(&connections[free_at], *next_due);
        *next_due += (uint64_t)(-log(1 - drand48()) / rate * 1e9);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int earlier(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void quantiles(const char *name, double *values, size_t count) {
    static const double shares[] = {.5, .9, .99, .999};
    static const char *const names[] = {"p50", "p90", "p99", "p999"};
    qsort(values, count, sizeof(double), ascending);
    for (int i = 0; i < 4; i++)
        printf(",\"%s%s_us\":%.1f", name, names[i], count ? values[(size_t)(shares[i] * (count - 1))] : 0);
}

static void report(uint64_t ended) {
    double span = ended < measure_from ? 0 : ((ended < measure_to ? ended : measure_to) - measure_from) / 1e9;
    int waiting = 0;
    uint64_t oldest = ended;
    for (int i = 0; i < connection_count; i++)
        if (connections[i].busy) {
            waiting++;
            if (connections[i].due < oldest) oldest = connections[i].due;
        }
    printf("{\"requests\":%lu,\"total\":%lu,\"seconds\":%.3f,\"rps\":%.1f,\"errors\":%lu,\"hang_ups\":%lu,\"dials\":%lu,"
           "\"unfinished\":%lu,\"waiting\":%d,\"oldest_us\":%.1f,\"chunks\":%lu,\"total_chunks\":%lu,\"statuses\":{",
           done, total_done, span, span > 0 ? done / span : 0, errors, hang_ups, dials, unfinished, waiting,
           (ended - oldest) / 1e3, chunks, total_chunks);
    const char *comma = "";
    for (int status = 0; status < 600; status++)
        if (statuses[status]) {
            printf("%s\"%d\":%lu", comma, status, statuses[status]);
            comma = ",";
        }
    printf("}");
    quantiles("", latencies, latency_count);
    quantiles("ttfb_", first_bytes, first_count);
    quantiles("chunk_", delays, delay_count);
    printf("}\n");
}

static void make_request(const char *path, const char *headers, const char *body_file) {
    static char text[4 << 20];
    size_t length = 0;
    if (body_file) {
        FILE *file = fopen(body_file, "rb");
        if (!file) { perror(body_file); exit(1); }
        length = fread(text, 1, sizeof text, file);
        fclose(file);
    }
    request = malloc(length + 16384);
    int head_length = snprintf(request, 16384,
                               "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                               "Accept: application/json\r\nUser-Agent: modelport-bench\r\n%s%sContent-Length: %zu\r\n\r\n",
                               path, port, is_churn ? "Connection: close\r\n" : "", headers, length);
    memcpy(request + head_length, text, length);
    request_length = head_length + length;
}

static void make_connections(uint64_t begin_at) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    connections = calloc(connection_count, sizeof *connections);
    starts = calloc(connection_count, sizeof *starts);
    for (int i = 0; i < connection_count; i++) {
        dial(&connections[i]);
        starts[i] = begin_at + (uint64_t)(drand48() * spread_us * 1e3);
    }
    qsort(starts, connection_count, sizeof *starts, earlier);
}

static void run(uint64_t begin_at) {
    struct epoll_event ready[256], timer = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &timer);
    uint64_t next_due = begin_at, set_for = 0, now;
    while ((now = now_ns()) < measure_to && !(requests_limit && total_done >= requests_limit)) {
        if (next_due && next_due <= now) run_due(now, &next_due);
        bool all_busy = rate && next_due <= now; /* the next answer frees a connection */
        uint64_t wake = !all_busy && next_due && next_due < measure_to ? next_due : measure_to;
        if (wake != set_for) {
            struct itimerspec when = {.it_value = {.tv_sec = wake / 1000000000ull, .tv_nsec = wake % 1000000000ull}};
            timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
            set_for = wake;
        }
        int count = epoll_wait(epoll_fd, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            uint64_t expirations;
            if (!c) { (void)!read(timer_fd, &expirations, sizeof expirations); set_for = 0; continue; }
            if (ready[i].events & EPOLLOUT && c->wants_out) {
                if (c->busy && c->sent < request_length) transmit(c);
                else watch(c, false);
            }
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
        }
    }
}

int main(int argc, char **argv) {
    const char *path = "/", *body_file = NULL;
    char headers[8192] = "";
    double seconds = 3, warmup = 1;
    int option;
    while ((option = getopt(argc, argv, "p:u:b:H:c:d:w:r:sn:kg:x:")) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'b': body_file = optarg; break;
        case 'H':
            strncat(headers, optarg, sizeof headers - strlen(headers) - 3);
            strcat(headers, "\r\n");
            break;
        case 'c': connection_count = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 's': is_stream = true; break;
        case 'n': requests_limit = strtoul(optarg, NULL, 10); break;
        case 'k': is_churn = true; break;
        case 'g': spread_us = strtoul(optarg, NULL, 10); break;
        case 'x': hang_up_share = atof(optarg); break;
        default: return 2;
        }
    }
    make_request(path, headers, body_file);
    latencies = malloc(SAMPLES * sizeof(double));
    first_bytes = malloc(SAMPLES * sizeof(double));
    delays = malloc(SAMPLES * sizeof(double));
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    srand48(7);
    uint64_t begin_at = now_ns() + 20000000ull;
    make_connections(begin_at);
    measure_from = begin_at + (uint64_t)(warmup * 1e9);
    measure_to = measure_from + (uint64_t)(seconds * 1e9);
    run(begin_at);
    report(now_ns());
    return 0;
}
