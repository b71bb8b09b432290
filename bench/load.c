/* Load for the benchmarks of the web side, and the limits that it is compared with. One thread, epoll, Linux.
 *
 *   load follow --port P --paths FILE --count N [--rate PER_S] [--stall K] [--early] [--header 'NAME: VALUE']...
 *       Opens N connections that each GET a path of FILE (one a line, repeated in turn) and reads their bodies.
 *       In these it looks for tokens @@NS:SEQ@, which publishers put into their lines: NS is when the line was sent
 *       (CLOCK_REALTIME), SEQ counts the lines of that log from 0. K of the connections, spread evenly, read no
 *       further than the header, into a small receive buffer and in Ethernet's segments: the server's kernel buffers
 *       megabytes for a client that takes loopback's. With --early a connection counts as connected without
 *       having got the header of a response. Prints "connected" once all are (or have failed), then obeys lines on
 *       its standard input: "mark" prints the figures since the last one as JSON, "resume" lets the stalled ones
 *       read, "wait" prints "closed" once all connections are closed by the other side; the end of input ends it.
 *
 *   load serve --port P --count N
 *       The limit of fan-out: accepts N connections and answers with a header; on "go RATE SECONDS" sends each line
 *       of 100 bytes, as one HTTP chunk, to all of them, one send each. Does nothing else.
 *
 *   load replay --port P --redis PORT --key LIST --piece N
 *       The limit of catching up: reads Tailer's LIST with LRANGE, N elements at a time, takes the headers off,
 *       unpacks zstd frames and sends what is left as HTTP chunks, to one client after the other.
 *
 * Tokens are looked for in the bytes as they come, HTTP chunks' frames included: where a server cuts chunks inside a
 * line, that shows as a gap. It can't hide one.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, CARRY = 48, EVENTS = 1024, BUFFER = 1 << 18, STALLED_BUFFER = 4096, SEGMENT = 1448 };

static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, ": %s\n", strerror(errno));
    exit(1);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Options: each is a name and a value, but for the flags. */

static int port, count, stall, early, redis_port, piece = 16;
static double rate = 2000;
static const char *paths_file, *key;
static char headers[4096];

static void parse(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--early")) {
            early = 1;
            continue;
        }
        const char *value = ++i < argc ? argv[i] : "";
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--count")) count = atoi(value);
        else if (!strcmp(name, "--rate")) rate = atof(value);
        else if (!strcmp(name, "--stall")) stall = atoi(value);
        else if (!strcmp(name, "--redis")) redis_port = atoi(value);
        else if (!strcmp(name, "--piece")) piece = atoi(value);
        else if (!strcmp(name, "--key")) key = value;
        else if (!strcmp(name, "--paths")) paths_file = value;
        else if (!strcmp(name, "--header") && strlen(headers) + strlen(value) + 3 < sizeof headers)
            strcat(strcat(headers, value), "\r\n");
        else {
            errno = EINVAL;
            die("option %s %s", name, value);
        }
    }
}

static struct sockaddr_in loopback(int at)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(at)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int listening(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die("port %d", port);
    return fd;
}

/* Reads a request up to its empty line, and answers with a header. */
static void answer(int fd)
{
    char request[8192];
    size_t got = 0;
    while (got < 4 || memcmp(request + got - 4, "\r\n\r\n", 4)) {
        ssize_t more = recv(fd, request + got, sizeof request - got, 0);
        if (more <= 0) die("a request");
        got += more;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) die("a header");
}

/* Latencies: buckets of 1/64 of a power of two of microseconds. */

enum { SUB = 64, BUCKETS = SUB * 40 };
static int64_t histogram[BUCKETS], samples, worst;

static int bucket_of(int64_t us)
{
    if (us < SUB) return us < 0 ? 0 : (int)us;
    int shift = 63 - __builtin_clzll(us) - 6;
    int bucket = SUB * shift + (int)(us >> shift);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double quantile_ms(double share)
{
    int64_t rank = (int64_t)(share * samples), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        if ((seen += histogram[bucket]) > rank) {
            if (bucket < SUB) return bucket / 1e3;
            int shift = bucket / SUB - 1;
            return ((int64_t)(bucket - SUB * shift) << shift) / 1e3;
        }
    return worst / 1e6;
}

/* Following. */

struct connection {
    int fd, status; /* status: 0 none yet, -1 failed, else HTTP's */
    int64_t next;   /* the SEQ that is due */
    uint8_t stalled, reading, header_end, carried;
    char carry[CARRY]; /* the beginning of what may become a token; behind the header only */
    char first[16];
};

static struct connection *connections;
static char **paths;
static int path_count, poller, opened, settled, closed, failed;
static int64_t lines, total, gaps, doubles, bytes, began, closed_at;

static void read_paths(void)
{
    FILE *file = fopen(paths_file ? paths_file : "", "r");
    char line[1024];
    if (!file) die("paths");
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        paths = realloc(paths, sizeof *paths * (path_count + 1));
        paths[path_count++] = strdup(line);
    }
    fclose(file);
}

static void watch(struct connection *one, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = one};
    if (epoll_ctl(poller, operation, one->fd, &event)) die("epoll");
}

static void settle(struct connection *one, int status)
{
    if (!one->status) settled++;
    if (status < 0 || (status != 200 && status != 1)) failed++;
    one->status = status;
}

static void open_next(void)
{
    struct connection *one = &connections[opened];
    struct sockaddr_in address = loopback(port);
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (one->fd < 0) die("socket %d", opened);
    /* Spread evenly: so many of those before and with this one. */
    one->stalled = (int64_t)(opened + 1) * stall / count > (int64_t)opened * stall / count;
    if (one->stalled) {
        int size = STALLED_BUFFER, segment = SEGMENT;
        setsockopt(one->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        setsockopt(one->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    watch(one, EPOLL_CTL_ADD, EPOLLOUT);
    opened++;
}

static void gone(struct connection *one)
{
    if (!one->status || one->status == 1) settle(one, -1);
    one->reading = 0;
    close(one->fd);
    one->fd = -1;
    closed++;
    closed_at = now_ns(CLOCK_MONOTONIC);
}

static void request(struct connection *one)
{
    char text[8192];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n",
                          paths[(one - connections) % path_count], port, headers);
    if (error || send(one->fd, text, length, MSG_NOSIGNAL) != length) {
        gone(one);
        return;
    }
    if (early) settle(one, 1);
    one->reading = 1;
    watch(one, EPOLL_CTL_MOD, EPOLLIN);
}

/* Counts one token. */
static void arrived(struct connection *one, int64_t sent, int64_t seq, int64_t now)
{
    if (seq < one->next) {
        doubles++;
        return;
    }
    gaps += seq - one->next;
    one->next = seq + 1;
    total++;
    lines++;
    int64_t took = now - sent;
    histogram[bucket_of(took / 1000)]++;
    samples++;
    if (took > worst) worst = took;
}

/* Looks for tokens; returns where the beginning of an unfinished one is, or the end. */
static const char *scan(struct connection *one, const char *at, const char *end, int64_t now)
{
    while ((at = memchr(at, '@', end - at))) {
        const char *start = at;
        if (end - at < 2) return start;
        if (at[1] != '@') {
            at++;
            continue;
        }
        int64_t numbers[2] = {0, 0};
        int which = 0;
        for (at += 2; at < end; at++) {
            if (*at >= '0' && *at <= '9') numbers[which] = numbers[which] * 10 + *at - '0';
            else if (*at == ':' && !which) which = 1;
            else break;
        }
        if (at == end && end - start < CARRY) return start;
        if (at < end && *at == '@' && which) {
            arrived(one, numbers[0], numbers[1], now);
            at++;
        }
    }
    return end;
}

/* Skips the header; returns where the body begins in what was read, or NULL. */
static char *skip_header(struct connection *one, char *at, char *end)
{
    static const char mark[] = "\r\n\r\n";
    for (; at < end; at++) {
        if (one->carried < 12) one->first[one->carried++] = *at;
        one->header_end = *at == mark[one->header_end] ? one->header_end + 1 : *at == '\r';
        if (one->header_end == 4) {
            one->carried = 0;
            settle(one, atoi(one->first + 9));
            return at + 1;
        }
    }
    return NULL;
}

static void receive(struct connection *one)
{
    static char buffer[CARRY + BUFFER];
    size_t carried = one->header_end == 4 ? one->carried : 0;
    memcpy(buffer, one->carry, carried);
    ssize_t got = recv(one->fd, buffer + carried, one->stalled && one->header_end < 4 ? 1 : BUFFER, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) gone(one);
        return;
    }
    bytes += got;
    char *at = buffer, *end = buffer + carried + got;
    if (one->header_end < 4) {
        if (!(at = skip_header(one, at, end))) return;
        if (one->stalled) {
            one->reading = 0;
            watch(one, EPOLL_CTL_MOD, 0);
            return;
        }
    }
    const char *rest = scan(one, at, end, now_ns(CLOCK_REALTIME));
    one->carried = end - rest;
    memcpy(one->carry, rest, one->carried);
}

static void print_figures(void)
{
    int64_t least = INT64_MAX;
    int open = 0;
    for (int i = 0; i < opened; i++) {
        open += connections[i].fd >= 0;
        if (!connections[i].stalled && connections[i].next < least) least = connections[i].next;
    }
    printf("{\"connected\": %d, \"failed\": %d, \"closed\": %d, \"lines\": %ld, \"total\": %ld, \"gaps\": %ld, "
           "\"doubles\": %ld, \"least\": %ld, \"bytes\": %ld, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f, "
           "\"cpu\": %.3f, \"seconds\": %.6f}\n",
           open, failed, closed, lines, total, gaps, doubles, least, bytes, quantile_ms(0.5), quantile_ms(0.99),
           worst / 1e6, cpu_seconds(), ((closed == count ? closed_at : now_ns(CLOCK_MONOTONIC)) - began) / 1e9);
    lines = bytes = samples = worst = 0;
    memset(histogram, 0, sizeof histogram);
}

static void resume_stalled(void)
{
    for (int i = 0; i < opened; i++)
        if (connections[i].stalled && connections[i].fd >= 0) {
            int size = 1 << 20;
            setsockopt(connections[i].fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
            connections[i].stalled = 0;
            connections[i].reading = 1;
            watch(&connections[i], EPOLL_CTL_MOD, EPOLLIN);
        }
}

static int follow(void)
{
    static struct epoll_event events[EVENTS];
    char command[256];
    int told = 0, wait = 0;
    read_paths();
    connections = calloc(count, sizeof *connections);
    poller = epoll_create1(0);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input)) die("standard input");
    began = now_ns(CLOCK_MONOTONIC);
    for (;;) {
        int64_t due = 1 + (int64_t)((now_ns(CLOCK_MONOTONIC) - began) / 1e9 * rate);
        /* No more at once than the server's queue of connections takes. */
        while (opened < count && opened < due && opened - settled < 1000) open_next();
        if (!told && settled == count) {
            told = 1;
            puts("connected");
        }
        if (wait && closed >= count) {
            wait = 0;
            puts("closed");
        }
        fflush(stdout);
        int ready = epoll_wait(poller, events, EVENTS, opened < count ? 1 : -1);
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            if (one && one->reading) receive(one);
            else if (one && events[i].events & EPOLLOUT) request(one);
            else if (one) gone(one); /* a stalled one's other side has closed */
            else {
                ssize_t got = read(0, command, sizeof command - 1);
                if (got <= 0) return 0;
                command[got] = 0;
                if (strstr(command, "mark")) print_figures();
                if (strstr(command, "resume")) resume_stalled();
                if (strstr(command, "wait")) wait = 1;
            }
        }
    }
}

/* The limits. */

static int serve(void)
{
    char command[256], text[256];
    double per_second, seconds;
    int server = listening(), *sockets = calloc(count, sizeof *sockets);
    puts("listening");
    fflush(stdout);
    for (int i = 0; i < count; i++) {
        if ((sockets[i] = accept(server, NULL, NULL)) < 0) die("accept");
        answer(sockets[i]);
    }
    if (!fgets(command, sizeof command, stdin) || sscanf(command, "go %lf %lf", &per_second, &seconds) != 2) return 1;
    int64_t began = now_ns(CLOCK_MONOTONIC), pause = 1e9 / per_second, sends = per_second * seconds;
    for (int64_t seq = 0; seq < sends; seq++) {
        int64_t due = began + seq * pause;
        struct timespec until = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        char line[LINE + 1];
        int used = snprintf(line, sizeof line, "@@%ld:%ld@ ", now_ns(CLOCK_REALTIME), seq);
        memset(line + used, 'x', LINE - used);
        line[LINE - 1] = '\n';
        int length = snprintf(text, sizeof text, "%x\r\n%.*s\r\n", LINE, LINE, line);
        for (int i = 0; i < count; i++)
            if (send(sockets[i], text, length, MSG_NOSIGNAL) != length) die("send");
    }
    puts("done");
    fflush(stdout);
    return fgets(command, sizeof command, stdin) ? 0 : 0;
}

static char reply[64 << 20];
static size_t reply_start, reply_end;
static int redis_fd;

/* Makes at least so many bytes of the reply available; returns where they are. */
static char *available(size_t wanted)
{
    while (reply_end - reply_start < wanted) {
        ssize_t got = recv(redis_fd, reply + reply_end, sizeof reply - reply_end, 0);
        if (got <= 0) die("Redis");
        reply_end += got;
    }
    return reply + reply_start;
}

/* Reads a line of the reply such as "$12"; returns its number. */
static long reply_number(char kind)
{
    for (size_t length = 1;; length++) {
        char *at = available(length);
        if (at[length - 1] == '\n') {
            if (*at != kind) die("Redis said %.*s", (int)length, at);
            reply_start += length;
            return atol(at + 1);
        }
    }
}

static void write_all(int fd, struct iovec *parts, int number)
{
    while (number) {
        ssize_t sent = writev(fd, parts, number < 1024 ? number : 1024);
        if (sent < 0) die("the client");
        while (number && (size_t)sent >= parts->iov_len) {
            sent -= parts->iov_len;
            parts++, number--;
        }
        if (number) {
            parts->iov_base = (char *)parts->iov_base + sent;
            parts->iov_len -= sent;
        }
    }
}

static void replay(void)
{
    static char unpacked[64 << 20], command[512];
    struct iovec *parts = calloc(piece + 2, sizeof *parts);
    struct sockaddr_in address = loopback(redis_port);
    void *library = dlopen("libzstd.so.1", RTLD_NOW);
    size_t (*unpack)(void *, size_t, const void *, size_t) = NULL;
    if (library) *(void **)&unpack = dlsym(library, "ZSTD_decompress");
    int server = listening();
    puts("listening");
    fflush(stdout);
    redis_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(redis_fd, (struct sockaddr *)&address, sizeof address)) die("Redis");
    for (;;) {
        int client = accept(server, NULL, NULL);
        answer(client);
        for (long index = 0, found = piece; found == piece; index += piece) {
            char first[24], last[24], frame[32];
            snprintf(first, sizeof first, "%ld", index);
            snprintf(last, sizeof last, "%ld", index + piece - 1);
            int length = snprintf(command, sizeof command, "*4\r\n$6\r\nLRANGE\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
                                  strlen(key), key, strlen(first), first, strlen(last), last);
            reply_start = reply_end = 0;
            if (send(redis_fd, command, length, MSG_NOSIGNAL) != length) die("Redis");
            found = reply_number('*');
            size_t used = 0, size = 0;
            int number = 1;
            for (long i = 0; i < found; i++) {
                long packed = reply_number('$');
                char *element = available(packed + 2), *payload = memchr(element, '\n', packed) + 1;
                reply_start += packed + 2;
                if (*element != 'o' && *element != 'e') continue;
                size_t rest = element + packed - payload;
                if (payload[-2] == 'z') {
                    if (!unpack) die("libzstd.so.1");
                    rest = unpack(unpacked + used, sizeof unpacked - used, payload, rest);
                    if (rest > sizeof unpacked - used) die("a zstd frame");
                    payload = unpacked + used;
                    used += rest;
                }
                parts[number++] = (struct iovec){payload, rest};
                size += rest;
            }
            if (!size) continue;
            parts[0] = (struct iovec){frame, snprintf(frame, sizeof frame, "%zx\r\n", size)};
            parts[number++] = (struct iovec){"\r\n", 2};
            write_all(client, parts, number);
        }
        if (send(client, "0\r\n\r\n", 5, MSG_NOSIGNAL) < 0) die("the client");
        close(client);
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "follow")) return follow();
    if (argc > 1 && !strcmp(argv[1], "serve")) return serve();
    if (argc > 1 && !strcmp(argv[1], "replay")) replay();
    fprintf(stderr, "usage: load follow|serve|replay OPTIONS\n");
    return 2;
}
