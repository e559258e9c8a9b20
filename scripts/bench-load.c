/*
 * The load of scripts/bench: GET requests over kept connections, one thread, epoll. Each connection
 * has one batch of requests in flight (a batch is one request, or several when pipelined) and sends
 * the next when all answers of the last are there, or, with a rate, when its time has come: the
 * time of an answer counts from the planned one, so that a server that falls behind is seen to.
 * Answers need a Content-Length. Of several paths each connection has one, in turn. Prints one
 * line: how many answers, failures and other statuses than 200, answers a second, and the
 * microseconds from a batch's sending to each of its answers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_BYTES = 65536, LATENCY_SLOTS = 1000000, EVENTS = 256, MOST_PATHS = 256 };

struct options {
    uint16_t port;
    const char *paths[MOST_PATHS];
    int path_count; /* the connections take them in turn */
    int connections;
    int batch;
    double seconds;
    double rate; /* batches a second over all connections; 0: as many as are answered */
};

struct connection {
    const char *batch; /* what it sends */
    size_t bytes;
    int fd;
    int waiting; /* answers of this batch that have not come */
    uint64_t sent_us;
    size_t used;
    char in[IN_BYTES];
};

struct totals {
    uint64_t done, failed, bad_status;
    uint32_t latency[LATENCY_SLOTS]; /* how many answers took so many microseconds */
};

static struct totals totals;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A port that nobody had a moment ago. */
static int print_free_port(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        die("free port");
    printf("%d\n", ntohs(address.sin_port));
    return 0;
}

/* ---- requests and answers */

static char *make_batch(const char *path, int count, size_t *bytes)
{
    char *batch = NULL;
    FILE *out = open_memstream(&batch, bytes);

    if (!out)
        die("memory");
    for (int i = 0; i < count; i++)
        fprintf(out, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    fclose(out);
    return batch;
}

static void connection_open(struct connection *self, uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int on = 1;

    self->used = 0;
    self->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (self->fd < 0 || connect(self->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("connect");
    setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* A batch is small and the server has read the last one: it fits into the socket at once. */
static bool connection_send(struct connection *self, int count, uint64_t planned_us)
{
    self->waiting = count;
    self->sent_us = planned_us;
    return send(self->fd, self->batch, self->bytes, MSG_NOSIGNAL) == (ssize_t)self->bytes;
}

/* The bytes of the first answer in the buffer, 0 when it is not complete, -1 when it has no length.
 */
static ssize_t answer_bytes(const char *in, size_t used)
{
    const char *end = memmem(in, used, "\r\n\r\n", 4);

    if (!end)
        return 0;
    for (const char *line = in; line < end;) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            size_t bytes = (size_t)(end - in) + 4 + strtoul(line + 15, NULL, 10);
            return bytes <= used ? (ssize_t)bytes : 0;
        }
        line = (const char *)memchr(line, '\n', (size_t)(end + 4 - line)) + 1;
    }
    return -1;
}

static void count_answer(const struct connection *self, const char *answer, uint64_t now)
{
    uint64_t took = now - self->sent_us;

    totals.done++;
    totals.latency[took < LATENCY_SLOTS ? took : LATENCY_SLOTS - 1]++;
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        totals.bad_status++;
}

/* Reads once and counts what is complete; false when the connection is of no more use. */
static bool connection_read(struct connection *self)
{
    ssize_t got = recv(self->fd, self->in + self->used, sizeof(self->in) - self->used, 0);
    uint64_t now = now_us();
    size_t from = 0;

    if (got <= 0)
        return got < 0 && errno == EINTR;
    self->used += (size_t)got;
    while (self->waiting > 0) {
        ssize_t bytes = answer_bytes(self->in + from, self->used - from);
        if (bytes < 0)
            return false;
        if (bytes == 0)
            break;
        count_answer(self, self->in + from, now);
        from += (size_t)bytes;
        self->waiting--;
    }
    self->used -= from;
    memmove(self->in, self->in + from, self->used);
    return self->used < sizeof(self->in) && (self->waiting > 0 || self->used == 0);
}

/* ---- the run */

/* Connections that wait for the time of their next batch, the one that has waited longest first. */
struct idle {
    struct connection **at;
    int first, count, most;
};

static void idle_add(struct idle *idle, struct connection *connection)
{
    idle->at[(idle->first + idle->count++) % idle->most] = connection;
}

static struct connection *idle_take(struct idle *idle)
{
    struct connection *connection = idle->at[idle->first];

    idle->first = (idle->first + 1) % idle->most;
    idle->count--;
    return connection;
}

struct run {
    const struct options *options;
    char *batches[MOST_PATHS];
    size_t bytes[MOST_PATHS];
    int poll, open;
    uint64_t began_us, end_us;
    uint64_t planned; /* batches whose time has come, with a rate */
    struct idle idle;
};

static void drop(struct run *run, struct connection *connection)
{
    totals.failed++;
    run->open--;
    close(connection->fd);
}

static void send_batch(struct run *run, struct connection *connection, uint64_t planned_us)
{
    if (!connection_send(connection, run->options->batch, planned_us))
        drop(run, connection);
}

static uint64_t planned_us(const struct run *run)
{
    return run->began_us + (uint64_t)((double)run->planned * 1e6 / run->options->rate);
}

/* Sends what is due and finds a free connection. */
static void send_due(struct run *run)
{
    while (run->idle.count > 0 && planned_us(run) <= now_us()) {
        send_batch(run, idle_take(&run->idle), planned_us(run));
        run->planned++;
    }
}

/* With a rate until the next batch is due, unless it waits for a connection. */
static void wait_time(const struct run *run, struct timespec *wait)
{
    uint64_t now = now_us(), until = now + 100000;

    if (run->options->rate > 0 && run->idle.count > 0)
        until = planned_us(run);
    until = until > now ? until - now : 0;
    *wait = (struct timespec){(time_t)(until / 1000000), (long)(until % 1000000 * 1000)};
}

static void answered(struct run *run, struct connection *connection)
{
    if (!connection_read(connection))
        drop(run, connection);
    else if (connection->waiting == 0 && run->options->rate > 0)
        idle_add(&run->idle, connection);
    else if (connection->waiting == 0)
        send_batch(run, connection, now_us());
}

static void open_connections(struct run *run, struct connection *connections)
{
    for (int i = 0; i < run->options->connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};

        connections[i].batch = run->batches[i % run->options->path_count];
        connections[i].bytes = run->bytes[i % run->options->path_count];
        connection_open(&connections[i], run->options->port);
        if (epoll_ctl(run->poll, EPOLL_CTL_ADD, connections[i].fd, &event) < 0)
            die("epoll");
        if (run->options->rate > 0)
            idle_add(&run->idle, &connections[i]);
        else
            send_batch(run, &connections[i], now_us());
    }
}

static void run_load(const struct options *options, struct connection *connections)
{
    struct run run = {.options = options, .open = options->connections};
    struct epoll_event events[EVENTS];
    struct timespec wait;

    for (int i = 0; i < options->path_count; i++)
        run.batches[i] = make_batch(options->paths[i], options->batch, &run.bytes[i]);
    run.poll = epoll_create1(EPOLL_CLOEXEC);
    run.idle.most = options->connections;
    run.idle.at = calloc((size_t)options->connections, sizeof(struct connection *));
    if (run.poll < 0 || !run.idle.at)
        die("epoll");
    run.began_us = now_us();
    run.end_us = run.began_us + (uint64_t)(options->seconds * 1e6);
    open_connections(&run, connections);
    while (run.open > 0 && now_us() < run.end_us) {
        if (options->rate > 0)
            send_due(&run);
        wait_time(&run, &wait);
        int count = epoll_pwait2(run.poll, events, EVENTS, &wait, NULL);

        for (int i = 0; i < count; i++)
            answered(&run, events[i].data.ptr);
    }
    close(run.poll);
    free(run.idle.at);
    for (int i = 0; i < options->path_count; i++)
        free(run.batches[i]);
}

static unsigned percentile(unsigned percent)
{
    uint64_t seen = 0;
    unsigned slot = 0;

    while (slot < LATENCY_SLOTS - 1 && (seen += totals.latency[slot]) * 100 < totals.done * percent)
        slot++;
    return slot;
}

static int usage(void)
{
    fputs("bench-load -p PORT [-P PATH]... [-c CONNECTIONS] [-x BATCH] [-d SECONDS] [-r RATE]\n"
          "bench-load -f            prints a free port\n",
          stderr);
    return 64;
}

int main(int argc, char **argv)
{
    struct options options = {.paths = {"/"}, .connections = 64, .batch = 1, .seconds = 1};
    int option;

    while ((option = getopt(argc, argv, "fp:P:c:x:d:r:")) != -1) {
        switch (option) {
        case 'f':
            return print_free_port();
        case 'p':
            options.port = (uint16_t)atoi(optarg);
            break;
        case 'P':
            if (options.path_count == MOST_PATHS)
                return usage();
            options.paths[options.path_count++] = optarg;
            break;
        case 'c':
            options.connections = atoi(optarg);
            break;
        case 'x':
            options.batch = atoi(optarg);
            break;
        case 'd':
            options.seconds = atof(optarg);
            break;
        case 'r':
            options.rate = atof(optarg);
            break;
        default:
            return usage();
        }
    }
    options.path_count += options.path_count == 0; /* "/" */
    if (options.port == 0 || options.connections < 1 || options.batch < 1 || options.seconds <= 0 ||
        options.rate < 0)
        return usage();

    struct connection *connections = calloc((size_t)options.connections, sizeof(*connections));
    uint64_t began = now_us();

    if (!connections)
        die("memory");
    run_load(&options, connections);
    free(connections);
    printf("done=%" PRIu64 " failed=%" PRIu64 " bad_status=%" PRIu64
           " per_second=%.0f p50_us=%u p99_us=%u\n",
           totals.done, totals.failed, totals.bad_status,
           (double)totals.done * 1e6 / (double)(now_us() - began), percentile(50), percentile(99));
    return totals.failed > 0 || totals.bad_status > 0 || totals.done == 0;
}
