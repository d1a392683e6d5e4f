/* load_setup: the load generator's options, its targets, and the connections to them. Included
 * once. One thread. */
#ifndef BENCH_LOAD_SETUP_H
#define BENCH_LOAD_SETUP_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "conversation.h"

enum {
    CONNECTIONS_MAX = 10000,
    PIPELINE_MAX = 1024,
    MESSAGE_MAX_BYTES = 1 << 20,
    MESSAGES_MAX = 1 << 30,
    TURNS_MAX = 1000000,
    TURN_MAX_MS = 60000,
    STALL_MAX_S = 3600,
    BODY_MAX_BYTES = 64 << 20,
};

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (memory == NULL) die("out of memory");
    return memory;
}

static void conn_open(struct target *t, struct conn *c, int index)
{
    int on = 1;
    c->index = index;
    c->fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&t->address, t->address_bytes) != 0)
        die("%s: connection %d: connect: %s", t->name, index, strerror(errno));
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
        die("%s: connection %d: %s", t->name, index, strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void target_open(struct target *t)
{
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (t->epoll_fd < 0) die("epoll_create1: %s", strerror(errno));
    t->conns = allocate((size_t)options.connections, sizeof *t->conns);
    for (int i = 0; i < options.connections; i++) conn_open(t, &t->conns[i], i);
}

static int parse_number(const char *what, const char *text, int max)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 1 || value > max)
        die("%s: a number from 1 to %d is needed, got '%s'", what, max, text);
    return (int)value;
}

/* Numeric addresses only: a name could resolve to anywhere. */
static void parse_address(struct target *t, const char *host, int port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&t->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&t->address;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        if (ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
            die("%s: %s is not a loopback address", t->name, host);
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        t->address_bytes = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        if (!IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
            die("%s: %s is not a loopback address", t->name, host);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        t->address_bytes = sizeof *v6;
    } else {
        die("%s: '%s' is not a numeric address", t->name, host);
    }
}

static clockid_t cpu_clock_of(const char *who, const char *pid)
{
    clockid_t clock;
    int err = clock_getcpuclockid(parse_number("pid", pid, 1 << 22), &clock);
    if (err != 0) die("%s: pid %s: %s", who, pid, strerror(err));
    return clock;
}

/* name=host:port[,pid], an IPv6 host in brackets; cuts the text into its parts. */
static void parse_target(struct target *t, char *text)
{
    char *host = strchr(text, '='), *pid, *port;
    if (host == NULL || host == text || host - text >= NAME_MAX_BYTES)
        die("a target is name=host:port[,pid], got '%s'", text);
    *host++ = '\0';
    if (strchr(text, '\t') != NULL) die("a target's name must not contain a tab");
    strcpy(t->name, text); /* its length was checked above */
    pid = strchr(host, ',');
    if (pid != NULL) *pid++ = '\0';
    port = strrchr(host, ':');
    if (port == NULL) die("%s: a port is missing", t->name);
    *port++ = '\0';
    if (host[0] == '[' && port[-2] == ']') {
        host++;
        port[-2] = '\0';
    }
    parse_address(t, host, parse_number("port", port, 65535));
    if (pid == NULL) return;
    t->has_clock = true;
    t->cpu_clock = cpu_clock_of(t->name, pid);
}

/* What --http and --body say: a GET, and the file that has the body of its answer. */
static void parse_http(const char *target)
{
    static char request[REQUEST_MAX_BYTES];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
    if (n >= REQUEST_MAX_BYTES) die("--http: the target is too long");
    options.message.request = request;
    options.message.size_bytes = (size_t)n;
}

static void read_body(const char *path)
{
    unsigned char *body = allocate(BODY_MAX_BYTES, 1);
    FILE *file = fopen(path, "rb");
    if (file == NULL) die("%s: %s", path, strerror(errno));
    options.expected.body_bytes = fread(body, 1, BODY_MAX_BYTES, file);
    if (ferror(file) || !feof(file)) die("%s: it cannot be read, or is too large", path);
    fclose(file);
    options.expected.body = body;
}

static void parse_options(int argc, char **argv)
{
    static const struct option known[] = {{"connections", required_argument, NULL, 'c'},
                                          {"size", required_argument, NULL, 's'},
                                          {"pipeline", required_argument, NULL, 'p'},
                                          {"turns", required_argument, NULL, 't'},
                                          {"turn-ms", required_argument, NULL, 'm'},
                                          {"messages", required_argument, NULL, 'n'},
                                          {"rate", required_argument, NULL, 'r'},
                                          {"stall-s", required_argument, NULL, 'l'},
                                          {"beside", required_argument, NULL, 'b'},
                                          {"frames", no_argument, NULL, 'f'},
                                          {"http", required_argument, NULL, 'h'},
                                          {"body", required_argument, NULL, 'o'},
                                          {0}};
    int which;
    while ((which = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (which) {
        case 'c':
            options.connections = parse_number("--connections", optarg, CONNECTIONS_MAX);
            break;
        case 's':
            options.message.size_bytes = (size_t)parse_number("--size", optarg, MESSAGE_MAX_BYTES);
            break;
        case 'p': options.pipeline = parse_number("--pipeline", optarg, PIPELINE_MAX); break;
        case 't': options.turns = parse_number("--turns", optarg, TURNS_MAX); break;
        case 'm': options.turn_ms = parse_number("--turn-ms", optarg, TURN_MAX_MS); break;
        case 'n': options.messages = parse_number("--messages", optarg, MESSAGES_MAX); break;
        case 'r': options.rate = parse_number("--rate", optarg, MESSAGES_MAX); break;
        case 'l': options.stall_s = parse_number("--stall-s", optarg, STALL_MAX_S); break;
        case 'h': parse_http(optarg); break;
        case 'o': read_body(optarg); break;
        case 'f': options.message.frames = true; break;
        case 'b':
            options.has_beside = true;
            options.beside_clock = cpu_clock_of("--beside", optarg);
            break;
        default:
            die("usage: load [--connections N] [--size BYTES] [--pipeline N] [--frames] "
                "[--http TARGET --body FILE] [--rate N] [--turns N] [--turn-ms N | --messages N] "
                "[--beside PID] [--stall-s N] "
                "name=host:port[,pid] ...");
        }
    }
    if ((options.message.request != NULL) != (options.expected.body != NULL))
        die("--http and --body go together");
}

#endif
