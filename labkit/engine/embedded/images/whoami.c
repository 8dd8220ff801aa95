/*
 * whoami: a small HTTP server that says who answers; the course's stand-in for
 * traefik/whoami v1.11.
 *
 * Why not the original: a Go program takes hundreds of milliseconds and several MB to start
 * under QEMU's TCG. This one is a single static file of about 100 kB that is listening after
 * some twenty system calls, and one thread serves every connection.
 *
 * How it is built, on a machine without a compiler. Unpack these packages of Debian trixie
 * into one directory ROOT (nothing else of their dependencies is needed, binutils neither):
 *
 *     tcc musl-dev libc6
 *
 * and run, with L=ROOT/usr/lib/x86_64-linux-gnu and M=ROOT/usr/lib/x86_64-linux-musl:
 *
 *     L/ld-linux-x86-64.so.2 --library-path L ROOT/usr/bin/tcc -B L/tcc
 *         -nostdinc -nostdlib -static
 *         -I ROOT/usr/include/x86_64-linux-musl -I L/tcc/include
 *         -o whoami M/crt1.o M/crti.o whoami.c M/libc.a L/tcc/libtcc1.a M/crtn.o
 *
 * (each option and its directory joined: -BL/tcc, -IROOT/...). Any C99 compiler for Linux
 * builds it too: cc -o whoami whoami.c
 *
 * What it answers:
 *
 *     GET /             text: Name, Hostname, IPs, RemoteAddr, then the request as it came,
 *                       headers sorted; ?wait=100ms waits first (Go's durations),
 *                       ?env=true adds the environment
 *     GET /api          the same as JSON; ?env=true
 *     GET /health       the stored status, 200 at first; POST a number to change it (here only)
 *     GET /bench        "1", keep-alive
 *     GET /data         ?size=n&unit=kb|mb|gb|tb and &attachment=true
 *     GET /echo         501: the WebSocket echo of the original is left out, and so is TLS
 *
 *     -port N, -name NAME, -verbose; WHOAMI_PORT_NUMBER, WHOAMI_NAME, WHOAMI_ALLOWED_ORIGINS
 *
 * SIGTERM and SIGINT end it at once, also as process 1 (with status 2, as a Go program does).
 *
 * Structure: one epoll loop; a connection holds what it has read and what is left to write.
 * A request is parsed where it lies in the input and is answered only when it is complete, so
 * slow clients cost memory (bounded) and never time. No stdio and no variadic function: small,
 * and nothing that a simple compiler could get wrong.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_HEAD 65536u        /* bytes of request line and headers */
#define MAX_BODY 262144u       /* bytes of a request's body */
#define MAX_CHUNKED 65536u     /* bytes of a chunked body, framing included */
#define MAX_HEADERS 200
#define MAX_CONNECTIONS 4096
#define READ_MS 60000          /* for a whole request to arrive */
#define IDLE_MS 180000         /* between two requests */
#define WRITE_MS 60000         /* without the client taking any byte */
#define LINGER_MS 500          /* for a client to read the answer to a bad request */
#define NEVER INT64_MAX

extern char **environ;

/* -- bytes ------------------------------------------------------------------------------- */

struct buf {
    char *p;
    size_t n, cap;
    int failed; /* out of memory: the content is not to be used */
};

static void reserve(struct buf *b, size_t more)
{
    size_t cap = b->cap ? b->cap : 1024;
    char *p;

    if (b->failed || b->cap - b->n >= more)
        return;
    while (cap - b->n < more)
        cap *= 2;
    p = realloc(b->p, cap);
    if (!p) {
        b->failed = 1;
        return;
    }
    b->p = p;
    b->cap = cap;
}

static void put(struct buf *b, const char *p, size_t n)
{
    reserve(b, n);
    if (b->failed || !n)
        return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void puts_(struct buf *b, const char *s) { put(b, s, strlen(s)); }

static void putc_(struct buf *b, char c) { put(b, &c, 1); }

static void putu(struct buf *b, uint64_t v, int width)
{
    char t[24];
    int i = sizeof t;

    do {
        t[--i] = '0' + (char)(v % 10);
        v /= 10;
        width--;
    } while (v || width > 0);
    put(b, t + i, sizeof t - (size_t)i);
}

static void puthex(struct buf *b, uint64_t v)
{
    char t[16];
    int i = sizeof t;

    do {
        t[--i] = "0123456789abcdef"[v & 15];
        v >>= 4;
    } while (v);
    put(b, t + i, sizeof t - (size_t)i);
}

static void drop(struct buf *b, size_t n)
{
    if (n < b->n)
        memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

struct str {
    const char *p;
    size_t n;
};

static int is(struct str s, const char *lit)
{
    return s.n == strlen(lit) && !memcmp(s.p, lit, s.n);
}

static int lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

static int alnum(int c) { return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9'); }

static int same(struct str s, const char *lit) /* whatever the case */
{
    size_t i;

    if (s.n != strlen(lit))
        return 0;
    for (i = 0; i < s.n; i++)
        if (lower((unsigned char)s.p[i]) != lower((unsigned char)lit[i]))
            return 0;
    return 1;
}

static int compare(struct str a, struct str b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static struct str trim(struct str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s.p++, s.n--;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Is the word one of the comma-separated ones? */
static int has_word(struct str list, const char *word)
{
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        struct str one = {list.p, comma ? (size_t)(comma - list.p) : list.n};

        if (same(trim(one), word))
            return 1;
        if (!comma)
            break;
        list.n -= one.n + 1;
        list.p = comma + 1;
    }
    return 0;
}

static int hexval(int c)
{
    c = lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -- settings, and what this replica remembers ------------------------------------------- */

static const char *port_ = "80", *name_ = "", *origins = "*";
static int verbose;
static unsigned health = 200;

/* -- time -------------------------------------------------------------------------------- */

static int64_t now; /* milliseconds, monotonic */

static void tick(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static void put_clock(struct buf *b, const struct tm *t)
{
    putu(b, (uint64_t)t->tm_hour, 2);
    putc_(b, ':');
    putu(b, (uint64_t)t->tm_min, 2);
    putc_(b, ':');
    putu(b, (uint64_t)t->tm_sec, 2);
}

/* "Mon, 02 Jan 2006 15:04:05 GMT", made once a second */
static const struct buf *http_date(void)
{
    static struct buf b;
    static time_t last = -1;
    time_t s = time(NULL);
    struct tm t;

    if (s != last && gmtime_r(&s, &t)) {
        last = s;
        b.n = 0;
        put(&b, &"SunMonTueWedThuFriSat"[t.tm_wday * 3], 3);
        puts_(&b, ", ");
        putu(&b, (uint64_t)t.tm_mday, 2);
        putc_(&b, ' ');
        put(&b, &MONTHS[t.tm_mon * 3], 3);
        putc_(&b, ' ');
        putu(&b, (uint64_t)t.tm_year + 1900, 4);
        putc_(&b, ' ');
        put_clock(&b, &t);
        puts_(&b, " GMT");
    }
    return &b;
}

/* Go's durations: 100ms, 1.5s, 2m30s. Milliseconds, rounded up; -1 when it is not one. */
static int64_t duration(struct str s)
{
    static const struct {
        const char *unit;
        double ms;
    } UNITS[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\xc2\xb5s", 1e-3}, {"\xce\xbcs", 1e-3},
                 {"ms", 1},    {"s", 1e3},   {"m", 6e4},          {"h", 3.6e6}};
    double total = 0;
    int negative = 0;

    if (s.n && (*s.p == '-' || *s.p == '+')) {
        negative = *s.p == '-';
        s.p++, s.n--;
    }
    if (is(s, "0"))
        return 0;
    if (!s.n)
        return -1;
    while (s.n) {
        double v = 0, scale = 1;
        int digits = 0;
        size_t u = 0, k;

        for (; s.n && *s.p >= '0' && *s.p <= '9'; s.p++, s.n--, digits++)
            v = v * 10 + (*s.p - '0');
        if (s.n && *s.p == '.')
            for (s.p++, s.n--; s.n && *s.p >= '0' && *s.p <= '9'; s.p++, s.n--, digits++) {
                scale /= 10;
                v += (*s.p - '0') * scale;
            }
        if (!digits)
            return -1;
        while (u < s.n && s.p[u] != '.' && !(s.p[u] >= '0' && s.p[u] <= '9'))
            u++;
        for (k = 0; k < sizeof UNITS / sizeof *UNITS; k++) {
            struct str unit = {s.p, u};

            if (is(unit, UNITS[k].unit))
                break;
        }
        if (k == sizeof UNITS / sizeof *UNITS)
            return -1;
        total += v * UNITS[k].ms;
        s.p += u, s.n -= u;
    }
    if (total > 9.2e12) /* what an int64 of nanoseconds holds */
        return -1;
    if (negative)
        return 0;
    return (int64_t)total + (total > (double)(int64_t)total);
}

/* -- who am I ---------------------------------------------------------------------------- */

static const char *hostname(void)
{
    static char h[256];

    if (gethostname(h, sizeof h - 1))
        h[0] = 0;
    return h;
}

/* Every address, interface by interface, one a line; looked up again after a second, because
 * a container may be connected to another network while it runs. */
static const struct buf *addresses(void)
{
    static struct buf b;
    static int64_t until = -1;
    struct ifaddrs *all, *link, *a;
    char text[INET6_ADDRSTRLEN];

    if (now < until || getifaddrs(&all))
        return &b;
    until = now + 1000;
    b.n = 0;
    for (link = all; link; link = link->ifa_next) {
        if (!link->ifa_addr || link->ifa_addr->sa_family != AF_PACKET)
            continue;
        for (a = all; a; a = a->ifa_next) {
            const void *ip;

            if (!a->ifa_addr || strcmp(a->ifa_name, link->ifa_name))
                continue;
            if (a->ifa_addr->sa_family == AF_INET)
                ip = &((struct sockaddr_in *)a->ifa_addr)->sin_addr;
            else if (a->ifa_addr->sa_family == AF_INET6)
                ip = &((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr;
            else
                continue;
            if (inet_ntop(a->ifa_addr->sa_family, ip, text, sizeof text)) {
                puts_(&b, text);
                putc_(&b, '\n');
            }
        }
    }
    freeifaddrs(all);
    return &b;
}

/* -- connections ------------------------------------------------------------------------- */

enum state { READING, WAITING, WRITING, LINGERING };

struct conn {
    struct conn *prev, *next; /* the live ones; `next` also links the spare ones */
    int fd, mask;             /* mask: what epoll watches, -1 while it does not */
    enum state state;
    int waited, continued, close_after;
    unsigned served;
    size_t scanned;           /* bytes of `in` known to hold no end of headers */
    size_t sent;              /* bytes of `out` that are gone */
    int64_t deadline;
    uint64_t left, at;        /* of /data: bytes to make, and the number of the next one */
    uint64_t size;
    struct buf in, out;
    char peer[INET6_ADDRSTRLEN + 10];
};

static int ep, listener, paused;
static struct conn *live, *spare;
static unsigned connections, spares;
static int64_t next_deadline = NEVER;

static void deadline(struct conn *c, int64_t at)
{
    c->deadline = at;
    if (at < next_deadline)
        next_deadline = at;
}

static void watch(struct conn *c, int mask)
{
    struct epoll_event e;

    if (c->mask == mask)
        return;
    memset(&e, 0, sizeof e);
    e.events = (uint32_t)mask;
    e.data.ptr = c;
    epoll_ctl(ep, c->mask < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &e);
    c->mask = mask;
}

static void listening(int on)
{
    struct epoll_event e;

    memset(&e, 0, sizeof e);
    e.events = on ? EPOLLIN : 0;
    epoll_ctl(ep, EPOLL_CTL_MOD, listener, &e);
    paused = !on;
}

static void hang_up(struct conn *c)
{
    close(c->fd);
    if (c->prev)
        c->prev->next = c->next;
    else
        live = c->next;
    if (c->next)
        c->next->prev = c->prev;
    connections--;
    if (paused)
        listening(1);
    if (spares < 64 && c->in.cap <= 4096 && c->out.cap <= 4096 && !c->in.failed && !c->out.failed) {
        c->next = spare;
        spare = c;
        spares++;
        return;
    }
    free(c->in.p);
    free(c->out.p);
    free(c);
}

static struct conn *greet(int fd, const struct sockaddr_storage *from)
{
    struct conn *c = spare;
    struct buf b = {0}, in = {0}, out = {0};
    char text[INET6_ADDRSTRLEN] = "";
    unsigned p;

    if (c) {
        spare = c->next;
        spares--;
        in = c->in, out = c->out;
        in.n = out.n = 0;
    } else if (!(c = malloc(sizeof *c)))
        return NULL;
    memset(c, 0, sizeof *c);
    c->in = in, c->out = out;
    c->fd = fd;
    c->mask = -1;
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)from;

        p = ntohs(a->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr))
            inet_ntop(AF_INET, (const char *)&a->sin6_addr + 12, text, sizeof text);
        else
            inet_ntop(AF_INET6, &a->sin6_addr, text, sizeof text);
    } else {
        const struct sockaddr_in *a = (const struct sockaddr_in *)from;

        p = ntohs(a->sin_port);
        inet_ntop(AF_INET, &a->sin_addr, text, sizeof text);
    }
    b.p = c->peer, b.cap = sizeof c->peer;
    if (strchr(text, ':')) {
        putc_(&b, '[');
        puts_(&b, text);
        putc_(&b, ']');
    } else
        puts_(&b, text);
    putc_(&b, ':');
    putu(&b, p, 1);
    putc_(&b, 0);
    c->next = live;
    if (live)
        live->prev = c;
    live = c;
    connections++;
    deadline(c, now + READ_MS);
    return c;
}

/* -- requests ---------------------------------------------------------------------------- */

struct header {
    struct str key, value;
};

struct request {
    struct str method, target, path, query, host, body;
    struct header h[MAX_HEADERS]; /* sorted by key, without Host */
    int headers;
    int minor;                    /* HTTP/1.minor */
    int close, chunked, expect;
    uint64_t length;              /* Content-Length */
    size_t used;                  /* bytes of input that the request took */
};

static struct request r; /* the one being looked at */

static int token(struct str s)
{
    size_t i;

    for (i = 0; i < s.n; i++)
        if (!alnum((unsigned char)s.p[i]) && (!s.p[i] || !strchr("!#$%&'*+-.^_`|~", s.p[i])))
            return 0;
    return s.n > 0;
}

static int valid_host(struct str s)
{
    size_t i;

    for (i = 0; i < s.n; i++)
        if (!alnum((unsigned char)s.p[i]) && (!s.p[i] || !strchr("!$%&'()*+,-.:;=[]_~", s.p[i])))
            return 0;
    return 1;
}

/* content-type becomes Content-Type, in place */
static void canonical(char *p, size_t n)
{
    int first = 1;

    for (; n--; p++) {
        int c = lower((unsigned char)*p);

        *p = (char)(first && c >= 'a' && c <= 'z' ? c - 32 : c);
        first = *p == '-';
    }
}

/* Read the head that lies in p[0..n). Returns NULL, or the status line to refuse it with. */
static const char *parse_head(char *p, size_t n)
{
    char *end = p + n, *eol, *sp;
    int hosts = 0, lengths = 0, i, keep = 0;
    struct str line, proto, first = {0, 0};

    memset(&r, 0, offsetof(struct request, h));
    r.headers = r.close = r.chunked = r.expect = 0;
    r.length = 0;

    eol = memchr(p, '\n', n);
    line.p = p, line.n = (size_t)(eol - p);
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    sp = memchr(line.p, ' ', line.n);
    if (!sp)
        return "400 Bad Request";
    r.method.p = p, r.method.n = (size_t)(sp - p);
    r.target.p = sp + 1, r.target.n = line.n - r.method.n - 1;
    sp = memchr(r.target.p, ' ', r.target.n);
    if (!sp || !token(r.method))
        return "400 Bad Request";
    proto.p = sp + 1, proto.n = r.target.n - (size_t)(sp - r.target.p) - 1;
    r.target.n = (size_t)(sp - r.target.p);
    if (proto.n != 8 || memcmp(proto.p, "HTTP/", 5) || proto.p[6] != '.' || proto.p[5] < '0' ||
        proto.p[5] > '9' || proto.p[7] < '0' || proto.p[7] > '9')
        return "400 Bad Request";
    if (proto.p[5] != '1')
        return "505 HTTP Version Not Supported";
    r.minor = proto.p[7] != '0';
    if (!r.target.n)
        return "400 Bad Request";
    for (i = 0; i < (int)r.target.n; i++) {
        unsigned char c = (unsigned char)r.target.p[i];

        if (c <= ' ' || c == 127)
            return "400 Bad Request";
        if (c == '?') /* percent signs after it are checked where they are used */
            break;
        if (c == '%' && (i + 2 >= (int)r.target.n || hexval((unsigned char)r.target.p[i + 1]) < 0 ||
                         hexval((unsigned char)r.target.p[i + 2]) < 0))
            return "400 Bad Request";
    }
    for (; i < (int)r.target.n; i++)
        if ((unsigned char)r.target.p[i] <= ' ' || r.target.p[i] == 127)
            return "400 Bad Request";

    for (p = eol + 1; p < end; p = eol + 1) {
        struct header h;
        char *colon;

        eol = memchr(p, '\n', (size_t)(end - p));
        line.p = p, line.n = (size_t)(eol - p);
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (!line.n)
            break;
        colon = memchr(line.p, ':', line.n);
        if (!colon)
            return "400 Bad Request";
        h.key.p = p, h.key.n = (size_t)(colon - p);
        h.value.p = colon + 1, h.value.n = line.n - h.key.n - 1;
        h.value = trim(h.value);
        if (!token(h.key)) /* also folded lines and blanks before the colon */
            return "400 Bad Request";
        for (i = 0; i < (int)h.value.n; i++)
            if (((unsigned char)h.value.p[i] < ' ' && h.value.p[i] != '\t') || h.value.p[i] == 127)
                return "400 Bad Request";
        canonical(p, h.key.n);
        if (is(h.key, "Host")) {
            hosts++;
            r.host = h.value;
            continue;
        }
        if (is(h.key, "Content-Length")) {
            uint64_t v = 0;

            for (i = 0; i < (int)h.value.n; i++) {
                if (h.value.p[i] < '0' || h.value.p[i] > '9' || v > (uint64_t)1 << 58)
                    return "400 Bad Request";
                v = v * 10 + (uint64_t)(h.value.p[i] - '0');
            }
            if (!h.value.n || (lengths++ && v != r.length))
                return "400 Bad Request";
            r.length = v;
            if (lengths > 1)
                continue;
        }
        if (is(h.key, "Transfer-Encoding")) {
            if (r.chunked++ || !r.minor)
                return "400 Bad Request";
            if (!same(h.value, "chunked"))
                return "501 Not Implemented";
            continue;
        }
        if (is(h.key, "Connection")) {
            r.close |= has_word(h.value, "close");
            keep |= has_word(h.value, "keep-alive");
        }
        if (is(h.key, "Expect")) {
            if (!same(h.value, "100-continue"))
                return "417 Expectation Failed";
            r.expect = 1;
        }
        if (r.headers == MAX_HEADERS)
            return "431 Request Header Fields Too Large";
        for (i = r.headers++; i > 0 && compare(r.h[i - 1].key, h.key) > 0; i--)
            r.h[i] = r.h[i - 1];
        r.h[i] = h;
    }
    if (r.chunked && lengths) /* the classic way to smuggle a request */
        return "400 Bad Request";
    if (!r.minor && !keep)
        r.close = 1;
    if (hosts > 1)
        return "400 Bad Request: too many Host headers";
    if (!hosts && r.minor)
        return "400 Bad Request: missing required Host header";
    if (!valid_host(r.host))
        return "400 Bad Request: malformed Host header";
    if (r.length > MAX_BODY)
        return "413 Request Entity Too Large";

    /* http://host/path is allowed, and its host wins */
    if (r.target.n > 7) {
        first.p = r.target.p, first.n = 7;
        if (same(first, "http://")) {
            r.target.p += 7, r.target.n -= 7;
            for (i = 0; i < (int)r.target.n && r.target.p[i] != '/' && r.target.p[i] != '?';)
                i++;
            r.host.p = r.target.p, r.host.n = (size_t)i;
            r.target.p += i, r.target.n -= (size_t)i;
            if (!valid_host(r.host))
                return "400 Bad Request: malformed Host header";
        }
    }
    if (is(r.method, "OPTIONS") && is(r.target, "*"))
        r.target.n = 1;
    else if (r.target.n && *r.target.p != '/' && *r.target.p != '?')
        return "400 Bad Request";
    r.path = r.target;
    sp = r.target.n ? memchr(r.target.p, '?', r.target.n) : NULL;
    if (sp) {
        r.path.n = (size_t)(sp - r.target.p);
        r.query.p = sp + 1, r.query.n = r.target.n - r.path.n - 1;
    }
    return NULL;
}

/* Decode a chunked body in place. 1: complete, *used bytes of p; 0: more is needed; -1: bad. */
static int dechunk(char *p, size_t n, struct str *body, size_t *used, char *copy)
{
    size_t at = 0, out = 0;
    int trailer = 0;

    for (;;) {
        char *eol = memchr(p + at, '\n', n - at);
        size_t line, i, size = 0;

        if (!eol)
            return n - at > 4096 ? -1 : 0;
        line = (size_t)(eol - (p + at));
        if (line && p[at + line - 1] == '\r')
            line--;
        if (trailer) {
            at = (size_t)(eol - p) + 1;
            if (line)
                continue;
            body->p = copy, body->n = out;
            *used = at;
            return 1;
        }
        for (i = 0; i < line && hexval((unsigned char)p[at + i]) >= 0; i++) {
            size = size * 16 + (size_t)hexval((unsigned char)p[at + i]);
            if (size > MAX_CHUNKED)
                return -1;
        }
        if (!i || (i < line && (!p[at + i] || !strchr("; \t", p[at + i]))))
            return -1;
        at = (size_t)(eol - p) + 1;
        if (!size) {
            trailer = 1;
            continue;
        }
        if (n - at < size + 2)
            return n - at > size && p[at + size] != '\r' && p[at + size] != '\n' ? -1 : 0;
        if (out + size > MAX_CHUNKED)
            return -1;
        memcpy(copy + out, p + at, size);
        out += size;
        at += size;
        if (p[at] == '\n')
            at++;
        else if (p[at] == '\r' && p[at + 1] == '\n')
            at += 2;
        else
            return -1;
    }
}

/* The path of the request, without its %xx; too long a path is no path of ours. */
static int path_is(const char *lit)
{
    size_t i, n = strlen(lit);

    for (i = 0; n && i < r.path.n; i++, lit++, n--) {
        int c = (unsigned char)r.path.p[i];

        if (c == '%') {
            c = hexval((unsigned char)r.path.p[i + 1]) * 16 + hexval((unsigned char)r.path.p[i + 2]);
            i += 2;
        }
        if (c != (unsigned char)*lit)
            return 0;
    }
    return !n && i == r.path.n;
}

/* The first value of a key of the query, decoded into a static place; empty without. */
static struct str query(const char *key)
{
    static char text[256];
    struct str rest = r.query, none = {"", 0};

    while (rest.n) {
        const char *amp = memchr(rest.p, '&', rest.n);
        struct str one = {rest.p, amp ? (size_t)(amp - rest.p) : rest.n};
        const char *eq = one.n ? memchr(one.p, '=', one.n) : NULL;
        size_t cut = eq ? (size_t)(eq - one.p) : one.n, i, n = 0;
        struct str k = {one.p, cut};

        rest.p += one.n, rest.n -= one.n;
        if (amp)
            rest.p++, rest.n--;
        if (!is(k, key) || memchr(one.p, ';', one.n))
            continue;
        for (i = cut + 1; i < one.n; i++) {
            int c = (unsigned char)one.p[i];

            if (n == sizeof text)
                return none;
            if (c == '+')
                c = ' ';
            if (c == '%') {
                if (i + 2 >= one.n || hexval((unsigned char)one.p[i + 1]) < 0 ||
                    hexval((unsigned char)one.p[i + 2]) < 0)
                    break;
                c = hexval((unsigned char)one.p[i + 1]) * 16 + hexval((unsigned char)one.p[i + 2]);
                i += 2;
            }
            text[n++] = (char)c;
        }
        if (i < one.n) /* a broken %: such a pair does not count */
            continue;
        k.p = text, k.n = n;
        return k;
    }
    return none;
}

static int truth(struct str s)
{
    return is(s, "1") || is(s, "t") || is(s, "T") || is(s, "true") || is(s, "TRUE") ||
           is(s, "True");
}

/* -- answers ----------------------------------------------------------------------------- */

static struct buf body; /* of the answer being made */

static const char *reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *text;
    } REASONS[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {301, "Moved Permanently"},
                   {302, "Found"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {410, "Gone"},
                   {418, "I'm a teapot"},
                   {429, "Too Many Requests"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"}};
    size_t i;

    for (i = 0; i < sizeof REASONS / sizeof *REASONS; i++)
        if (REASONS[i].status == status)
            return REASONS[i].text;
    return NULL;
}

/* Put the head of an answer and `body`, or `length` bytes that will follow. */
static void answer(struct conn *c, unsigned status, const char *type, const char *extra,
                   uint64_t length)
{
    const struct buf *date = http_date();
    const char *why = reason(status);
    int empty = status == 204 || status == 304;

    puts_(&c->out, "HTTP/1.1 ");
    putu(&c->out, status, 3);
    putc_(&c->out, ' ');
    if (why)
        puts_(&c->out, why);
    else {
        puts_(&c->out, "status code ");
        putu(&c->out, status, 3);
    }
    puts_(&c->out, "\r\n");
    puts_(&c->out, extra);
    puts_(&c->out, "Date: ");
    put(&c->out, date->p, date->n);
    puts_(&c->out, "\r\n");
    if (!empty) {
        puts_(&c->out, "Content-Length: ");
        putu(&c->out, length, 1);
        puts_(&c->out, "\r\n");
        if (length && *type) {
            puts_(&c->out, "Content-Type: ");
            puts_(&c->out, type);
            puts_(&c->out, "\r\n");
        }
    }
    c->close_after = r.close;
    if (r.close)
        puts_(&c->out, "Connection: close\r\n");
    else if (!r.minor || path_is("/bench"))
        puts_(&c->out, "Connection: keep-alive\r\n");
    puts_(&c->out, "\r\n");
    if (is(r.method, "HEAD") || empty)
        c->left = 0;
    else if (!c->left)
        put(&c->out, body.p, body.n);
    if (body.failed) /* better nothing than half an answer */
        c->out.failed = 1;
}

static const char TEXT[] = "text/plain; charset=utf-8";

static void refuse(struct conn *c, const char *status)
{
    puts_(&c->out, "HTTP/1.1 ");
    put(&c->out, status, strcspn(status, ":"));
    puts_(&c->out, "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n");
    puts_(&c->out, status);
    c->close_after = 2;
}

static void put_lines(struct buf *b, const char *label, const struct buf *lines)
{
    size_t at = 0;

    while (at < lines->n) {
        size_t n = (size_t)((char *)memchr(lines->p + at, '\n', lines->n - at) - lines->p) - at;

        puts_(b, label);
        put(b, lines->p + at, n + 1);
        at += n + 1;
    }
}

/* The request as Go writes it: Host, User-Agent, what frames the body, then the rest sorted. */
static void put_request(struct buf *b)
{
    static const char *const APART[] = {"User-Agent", "Content-Length", "Trailer"};
    struct str agent = {"Go-http-client/1.1", 18};
    int i, said = 0, writes = is(r.method, "POST") || is(r.method, "PUT") || is(r.method, "PATCH");
    size_t k;

    for (i = r.headers - 1; i >= 0; i--)
        if (is(r.h[i].key, "User-Agent"))
            agent = r.h[i].value;
        else if (is(r.h[i].key, "Connection"))
            said |= has_word(r.h[i].value, "close");
    put(b, r.method.p, r.method.n);
    putc_(b, ' ');
    if (!r.path.n)
        putc_(b, '/');
    put(b, r.target.p, r.target.n);
    puts_(b, " HTTP/1.1\r\nHost: ");
    put(b, r.host.p, r.host.n);
    puts_(b, "\r\n");
    if (agent.n) {
        puts_(b, "User-Agent: ");
        put(b, agent.p, agent.n);
        puts_(b, "\r\n");
    }
    if (r.close && !said)
        puts_(b, "Connection: close\r\n");
    if (r.chunked)
        puts_(b, "Transfer-Encoding: chunked\r\n");
    else if (r.length || writes) {
        puts_(b, "Content-Length: ");
        putu(b, r.length, 1);
        puts_(b, "\r\n");
    }
    for (i = 0; i < r.headers; i++) {
        for (k = 0; k < sizeof APART / sizeof *APART && !is(r.h[i].key, APART[k]);)
            k++;
        if (k < sizeof APART / sizeof *APART)
            continue;
        put(b, r.h[i].key.p, r.h[i].key.n);
        puts_(b, ": ");
        put(b, r.h[i].value.p, r.h[i].value.n);
        puts_(b, "\r\n");
    }
    puts_(b, "\r\n");
    if (!r.chunked) {
        put(b, r.body.p, r.body.n);
        return;
    }
    if (r.body.n) {
        puthex(b, r.body.n);
        puts_(b, "\r\n");
        put(b, r.body.p, r.body.n);
        puts_(b, "\r\n");
    }
    puts_(b, "0\r\n\r\n");
}

static void whoami(struct conn *c)
{
    char **e;

    if (*name_) {
        puts_(&body, "Name: ");
        puts_(&body, name_);
        putc_(&body, '\n');
    }
    puts_(&body, "Hostname: ");
    puts_(&body, hostname());
    putc_(&body, '\n');
    put_lines(&body, "IP: ", addresses());
    puts_(&body, "RemoteAddr: ");
    puts_(&body, c->peer);
    putc_(&body, '\n');
    put_request(&body);
    if (truth(query("env")))
        for (e = environ; *e; e++) {
            puts_(&body, *e);
            putc_(&body, '\n');
        }
    answer(c, 200, TEXT, "", body.n);
}

/* Length of the UTF-8 character at p, 0 when it is not one. */
static size_t utf8(const unsigned char *p, size_t n)
{
    size_t len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3
                 : *p >= 0xf0 && *p < 0xf5                ? 4
                                                          : 0;
    size_t i;

    if (!len || len > n)
        return 0;
    for (i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

static void put_json(struct buf *b, const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + n;

    putc_(b, '"');
    while (p < end) {
        size_t len = utf8(p, (size_t)(end - p));

        if (!len) {
            puts_(b, "\\ufffd");
            p++;
            continue;
        }
        if (*p == '"' || *p == '\\') {
            putc_(b, '\\');
            putc_(b, (char)*p);
        } else if (*p >= '\b' && *p <= '\r' && *p != '\v') {
            putc_(b, '\\');
            putc_(b, "btn?fr"[*p - '\b']);
        } else if (*p < ' ' || *p == '<' || *p == '>' || *p == '&') {
            puts_(b, "\\u00");
            putc_(b, "0123456789abcdef"[*p >> 4]);
            putc_(b, "0123456789abcdef"[*p & 15]);
        } else if (len == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] | 1) == 0xa9) {
            puts_(b, p[2] == 0xa8 ? "\\u2028" : "\\u2029");
        } else
            put(b, (const char *)p, len);
        p += len;
    }
    putc_(b, '"');
}

static void field(struct buf *b, const char *key)
{
    if (b->n > 1)
        putc_(b, ',');
    put_json(b, key, strlen(key));
    putc_(b, ':');
}

static void text_field(struct buf *b, const char *key, const char *text, size_t n)
{
    if (!n)
        return;
    field(b, key);
    put_json(b, text, n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void environment(struct buf *b)
{
    size_t n = 0, i;
    char **sorted;

    while (environ[n])
        n++;
    if (!n || !(sorted = malloc(n * sizeof *sorted)))
        return;
    memcpy(sorted, environ, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    field(b, "environ");
    for (i = 0; i < n; i++) {
        size_t cut = strcspn(sorted[i], "=");

        putc_(b, i ? ',' : '{');
        put_json(b, sorted[i], cut);
        putc_(b, ':');
        put_json(b, sorted[i] + cut + (sorted[i][cut] != 0),
                 strlen(sorted[i] + cut + (sorted[i][cut] != 0)));
    }
    putc_(b, '}');
    free(sorted);
}

static void api(struct conn *c)
{
    static struct buf extra;
    const struct buf *ips = addresses();
    const char *host = hostname();
    size_t at = 0;
    int i;

    putc_(&body, '{');
    text_field(&body, "hostname", host, strlen(host));
    if (ips->n) {
        field(&body, "ip");
        while (at < ips->n) {
            size_t n = (size_t)((char *)memchr(ips->p + at, '\n', ips->n - at) - ips->p) - at;

            putc_(&body, at ? ',' : '[');
            put_json(&body, ips->p + at, n);
            at += n + 1;
        }
        putc_(&body, ']');
    }
    if (r.headers) {
        field(&body, "headers");
        for (i = 0; i < r.headers; i++) {
            if (i && !compare(r.h[i].key, r.h[i - 1].key))
                putc_(&body, ',');
            else {
                puts_(&body, i ? "]," : "{");
                put_json(&body, r.h[i].key.p, r.h[i].key.n);
                puts_(&body, ":[");
            }
            put_json(&body, r.h[i].value.p, r.h[i].value.n);
        }
        puts_(&body, "]}");
    }
    if (r.path.n)
        text_field(&body, "url", r.target.p, r.target.n);
    else
        text_field(&body, "url", "/", 1);
    text_field(&body, "host", r.host.p, r.host.n);
    text_field(&body, "method", r.method.p, r.method.n);
    text_field(&body, "name", name_, strlen(name_));
    text_field(&body, "remoteAddr", c->peer, strlen(c->peer));
    if (truth(query("env")))
        environment(&body);
    puts_(&body, "}\n");
    extra.n = 0;
    puts_(&extra, "Access-Control-Allow-Methods: *\r\nAccess-Control-Allow-Origin: ");
    puts_(&extra, origins);
    puts_(&extra, "\r\nContent-Type: application/json\r\n");
    putc_(&extra, 0);
    /* Content-Type comes before Date here, as in the original */
    if (extra.failed)
        c->out.failed = 1;
    else
        answer(c, 200, "", extra.p, body.n);
}

static void post_health(struct conn *c)
{
    struct str s = r.body;
    unsigned status = 0;
    size_t i;

    while (s.n && (*s.p == ' ' || *s.p == '\t' || *s.p == '\n' || *s.p == '\r'))
        s.p++, s.n--;
    for (i = 0; i < s.n && i < 4 && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        status = status * 10 + (unsigned)(s.p[i] - '0');
    if (status < 200 || status > 999 || (i < s.n && (!s.p[i] || !strchr(" \t\r\n", s.p[i])))) {
        puts_(&body, "a status code from 200 to 999 is expected\n");
        answer(c, 400, TEXT, "", body.n);
        return;
    }
    health = status;
    puts_(&body, "Update health check status code [");
    putu(&body, status, 1);
    puts_(&body, "]\n");
    if (!body.failed && write(1, body.p, body.n) < 0)
        errno = 0; /* nobody listens */
    body.n = 0;
    answer(c, 200, TEXT, "", 0);
}

static void data(struct conn *c)
{
    struct str s = query("size");
    uint64_t size = 0;
    size_t i = 0, k;
    int negative = s.n && *s.p == '-', shift = 0;
    static const char *const UNITS[] = {"kb", "mb", "gb", "tb"};

    if (s.n > 1 && (*s.p == '-' || *s.p == '+'))
        i = 1;
    if (s.n == i)
        size = 1, negative = 0;
    for (; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || size > (uint64_t)INT64_MAX / 10 - 1) {
            size = 1, negative = 0;
            break;
        }
        size = size * 10 + (uint64_t)(s.p[i] - '0');
    }
    if (negative)
        size = 0;
    s = query("unit");
    for (k = 0; k < 4; k++)
        if (same(s, UNITS[k]))
            shift = 10 * (int)(k + 1);
    if (size > (uint64_t)INT64_MAX >> shift)
        size = 1, shift = 0;
    c->size = c->left = size << shift;
    c->at = 0;
    answer(c, 200, TEXT,
           truth(query("attachment")) ? "Content-Disposition: Attachment\r\n" : "", c->left);
}

/* Put more of /data into the empty `out`: |ABC...XYZ-ABC...| */
static void more_data(struct conn *c)
{
    size_t n = c->left < 16384 ? (size_t)c->left : 16384, i;

    reserve(&c->out, n);
    if (c->out.failed)
        return;
    for (i = 0; i < n; i++, c->at++)
        c->out.p[i] = c->at == 0 || c->at == c->size - 1
                          ? '|'
                          : "-ABCDEFGHIJKLMNOPQRSTUVWXYZ"[c->at % 27];
    c->out.n = n;
    c->left -= n;
}

static void log_time(struct buf *b)
{
    time_t s = time(NULL);
    struct tm t;

    if (!gmtime_r(&s, &t))
        return;
    putu(b, (uint64_t)t.tm_year + 1900, 4);
    putc_(b, '/');
    putu(b, (uint64_t)t.tm_mon + 1, 2);
    putc_(b, '/');
    putu(b, (uint64_t)t.tm_mday, 2);
    putc_(b, ' ');
    put_clock(b, &t);
    putc_(b, ' ');
}

static void log_request(const struct conn *c)
{
    static struct buf b;
    time_t s = time(NULL);
    struct tm t;

    b.n = 0;
    log_time(&b);
    puts_(&b, c->peer);
    puts_(&b, " - - [");
    if (gmtime_r(&s, &t)) {
        putu(&b, (uint64_t)t.tm_mday, 2);
        putc_(&b, '/');
        put(&b, &MONTHS[t.tm_mon * 3], 3);
        putc_(&b, '/');
        putu(&b, (uint64_t)t.tm_year + 1900, 4);
        putc_(&b, ':');
        put_clock(&b, &t);
    }
    puts_(&b, " +0000] \"");
    put(&b, r.method.p, r.method.n);
    putc_(&b, ' ');
    put(&b, r.path.p, r.path.n);
    puts_(&b, r.minor ? " HTTP/1.1\" - -\n" : " HTTP/1.0\" - -\n");
    if (!b.failed && write(2, b.p, b.n) < 0)
        errno = 0;
}

/* Answer the request in `r`, or begin to wait. */
static void serve(struct conn *c)
{
    body.n = 0;
    body.failed = 0;
    if (is(r.method, "OPTIONS") && is(r.target, "*"))
        answer(c, 200, TEXT, "", 0);
    else if (path_is("/api"))
        api(c);
    else if (path_is("/health")) {
        if (is(r.method, "POST"))
            post_health(c);
        else
            answer(c, health, TEXT, "", 0);
    } else if (path_is("/bench")) {
        putc_(&body, '1');
        answer(c, 200, "text/plain", "", 1);
    } else if (path_is("/data"))
        data(c);
    else if (path_is("/echo")) {
        puts_(&body, "Not Implemented\n");
        answer(c, 501, TEXT, "", body.n);
    } else {
        int64_t ms = c->waited ? 0 : duration(query("wait"));

        if (ms > 0) {
            c->state = WAITING;
            deadline(c, ms > NEVER - now ? NEVER : now + ms);
            return;
        }
        whoami(c);
    }
    if (verbose)
        log_request(c);
}

/* -- the life of a connection ------------------------------------------------------------ */

/* Offset after the blank line that ends the headers, 0 when it is not there yet. */
static size_t end_of_head(struct conn *c)
{
    size_t i = c->scanned;
    char *p = c->in.p;

    while (i < c->in.n) {
        char *lf = memchr(p + i, '\n', c->in.n - i);

        if (!lf)
            break;
        i = (size_t)(lf - p) + 1;
        if (i < c->in.n && p[i] == '\n')
            return i + 1;
        if (i + 1 < c->in.n && p[i] == '\r' && p[i + 1] == '\n')
            return i + 2;
    }
    c->scanned = c->in.n > 3 ? c->in.n - 3 : 0;
    return 0;
}

/* Look for one whole request in the input and answer it. 0: more input is needed. */
static int take(struct conn *c)
{
    static char unchunked[MAX_CHUNKED];
    const char *error;
    size_t head, skip = 0;

    while (skip < c->in.n && skip < 8 && (c->in.p[skip] == '\r' || c->in.p[skip] == '\n'))
        skip++;
    if (skip && c->scanned == 0)
        drop(&c->in, skip);
    head = end_of_head(c);
    if (!head || head > MAX_HEAD) {
        if (c->in.n < MAX_HEAD)
            return 0;
        refuse(c, "431 Request Header Fields Too Large");
        return 1;
    }
    error = parse_head(c->in.p, head);
    if (error) {
        refuse(c, error);
        return 1;
    }
    r.used = head;
    if (r.chunked) {
        size_t used = 0;
        int done = dechunk(c->in.p + head, c->in.n - head, &r.body, &used, unchunked);

        if (done < 0) {
            refuse(c, "400 Bad Request");
            return 1;
        }
        if (!done && c->in.n - head > MAX_CHUNKED) {
            refuse(c, "413 Request Entity Too Large");
            return 1;
        }
        if (!done)
            goto more;
        r.used += used;
    } else if (r.length) {
        if (c->in.n - head < r.length)
            goto more;
        r.body.p = c->in.p + head;
        r.body.n = (size_t)r.length;
        r.used += (size_t)r.length;
    }
    serve(c);
    if (c->state == WAITING)
        return 1;
    drop(&c->in, r.used);
    c->scanned = 0;
    c->waited = c->continued = 0;
    c->served++;
    return 1;
more:
    if (r.expect && !c->continued && c->in.n == head) {
        c->continued = 1;
        puts_(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    return 0;
}

/* Write what there is. 1: all gone; 0: the client is slow; -1: it is gone. */
static int flush(struct conn *c)
{
    for (;;) {
        ssize_t n;

        if (c->out.failed)
            return -1;
        if (c->sent == c->out.n) {
            c->sent = c->out.n = 0;
            if (!c->left)
                return 1;
            more_data(c);
            continue;
        }
        n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        c->sent += (size_t)n;
        deadline(c, now + WRITE_MS);
    }
}

/* Go on as far as possible without waiting. */
static void advance(struct conn *c)
{
    int turns = 0;

    for (;;) {
        int before = c->out.n != 0 || c->left != 0;
        int done = flush(c);

        if (done < 0) {
            hang_up(c);
            return;
        }
        if (!done) {
            c->state = WRITING;
            watch(c, EPOLLOUT);
            return;
        }
        if (c->close_after) {
            if (c->close_after == 1 && !c->in.n) {
                hang_up(c);
                return;
            }
            /* unread input would make close() reset the connection under the answer */
            shutdown(c->fd, SHUT_WR);
            c->state = LINGERING;
            deadline(c, now + LINGER_MS);
            watch(c, EPOLLIN);
            return;
        }
        if (before) /* an answer has gone: the next request has its own time */
            deadline(c, now + (c->in.n ? READ_MS : IDLE_MS));
        if (++turns > 32) { /* a long pipeline: let the others in */
            c->state = WRITING;
            watch(c, EPOLLOUT);
            return;
        }
        c->state = READING;
        if (!c->in.n || !take(c)) {
            if (c->out.n)
                continue; /* 100 Continue */
            watch(c, EPOLLIN);
            return;
        }
        if (c->state == WAITING) {
            watch(c, 0);
            return;
        }
    }
}

static void readable(struct conn *c)
{
    int idle = !c->in.n;
    size_t room;
    ssize_t n;

    if (c->state == LINGERING) {
        static char sink[16384];
        int i;

        for (i = 0; i < 16; i++) {
            n = recv(c->fd, sink, sizeof sink, 0);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                hang_up(c);
                return;
            }
            if (n < 0)
                return;
        }
        return;
    }
    reserve(&c->in, c->in.n < 2048 ? 2048 : 16384);
    if (c->in.failed) {
        hang_up(c);
        return;
    }
    room = c->in.cap - c->in.n;
    n = recv(c->fd, c->in.p + c->in.n, room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        watch(c, EPOLLIN);
        return;
    }
    if (n <= 0) {
        hang_up(c);
        return;
    }
    c->in.n += (size_t)n;
    if (idle && c->served)
        deadline(c, now + READ_MS);
    advance(c);
}

static void timers(void)
{
    struct conn *c, *next;

    if (now < next_deadline)
        return;
    next_deadline = NEVER;
    for (c = live; c; c = next) {
        next = c->next;
        if (c->deadline > now) {
            if (c->deadline < next_deadline)
                next_deadline = c->deadline;
        } else if (c->state == WAITING) {
            c->waited = 1;
            deadline(c, now + WRITE_MS);
            advance(c);
        } else
            hang_up(c);
    }
}

static void welcome(void)
{
    int i;

    for (i = 0; i < 64; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        struct conn *c;
        int fd;

        if (connections >= MAX_CONNECTIONS) {
            listening(0);
            return;
        }
        fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                if (live)
                    listening(0); /* until somebody leaves */
                else
                    usleep(10000); /* others took all there is: do not spin */
            }
            return;
        }
        c = greet(fd, &from);
        if (!c) {
            close(fd);
            return;
        }
        readable(c); /* the request has often come already */
    }
}

/* -- the start --------------------------------------------------------------------------- */

static void say(const char *a, const char *b, const char *c)
{
    struct buf line = {0};

    log_time(&line);
    puts_(&line, a);
    puts_(&line, b);
    puts_(&line, c);
    putc_(&line, '\n');
    if (!line.failed && write(2, line.p, line.n) < 0)
        errno = 0;
    free(line.p);
}

static void at_once(int signal_)
{
    (void)signal_;
    _exit(2);
}

static int open_listener(unsigned port, int family)
{
    struct sockaddr_in6 six;
    struct sockaddr_in four;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0, bound;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (family == AF_INET6) {
        memset(&six, 0, sizeof six);
        six.sin6_family = AF_INET6;
        six.sin6_port = htons((uint16_t)port);
        bound = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (!bound)
            bound = bind(fd, (struct sockaddr *)&six, sizeof six);
    } else {
        memset(&four, 0, sizeof four);
        four.sin_family = AF_INET;
        four.sin_port = htons((uint16_t)port);
        bound = bind(fd, (struct sockaddr *)&four, sizeof four);
    }
    if (bound || listen(fd, 4096)) {
        int why = errno;

        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static void usage(int status)
{
    static const char text[] = "Usage of whoami:\n"
                               "  -name string\n    \tgive me a name\n"
                               "  -port string\n    \tgive me a port number (default \"80\")\n"
                               "  -verbose\n    \tEnable verbose logging\n";

    if (write(2, text, sizeof text - 1) < 0)
        errno = 0;
    _exit(status);
}

static void settings(int argc, char **argv)
{
    const char *v;
    int i;

    if ((v = getenv("WHOAMI_PORT_NUMBER")) && *v)
        port_ = v;
    if ((v = getenv("WHOAMI_NAME")))
        name_ = v;
    if ((v = getenv("WHOAMI_ALLOWED_ORIGINS")) && *v && !strpbrk(v, "\r\n"))
        origins = v;
    for (i = 1; i < argc; i++) {
        const char *flag = argv[i] + (argv[i][0] == '-' && argv[i][1] == '-' ? 2 : 1), *value;
        struct str key = {flag, strcspn(flag, "=")};

        if (argv[i][0] != '-' || !key.n)
            break; /* the flags end here */
        value = flag[key.n] ? flag + key.n + 1 : NULL;
        if (is(key, "verbose")) {
            struct str on = {value, value ? strlen(value) : 0};

            verbose = !value || truth(on);
            continue;
        }
        if (is(key, "h") || is(key, "help"))
            usage(0);
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value)
            usage(2);
        if (is(key, "port"))
            port_ = value;
        else if (is(key, "name"))
            name_ = value;
        else if (is(key, "allowed-origins"))
            origins = value;
        else if (is(key, "cert") || is(key, "key") || is(key, "cacert")) {
            say("this whoami has no TLS: -", flag, " is refused");
            _exit(1);
        } else
            usage(2);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event e;
    unsigned port = 0;
    const char *p;

    settings(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (getpid() == 1) { /* as process 1 it would not get the default of ending */
        signal(SIGTERM, at_once);
        signal(SIGINT, at_once);
    }
    for (p = port_; *p >= '0' && *p <= '9' && port < 65536; p++)
        port = port * 10 + (unsigned)(*p - '0');
    if (*p || p == port_ || port > 65535) {
        say("listen tcp: invalid port ", port_, "");
        return 1;
    }
    say("Starting up on port ", port_, "");
    listener = open_listener(port, AF_INET6);
    if (listener < 0 && errno != EADDRINUSE && errno != EACCES)
        listener = open_listener(port, AF_INET);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || ep < 0) {
        say("listen tcp :", port_, errno == EADDRINUSE ? ": bind: address already in use"
                                   : errno == EACCES   ? ": bind: permission denied"
                                                       : ": failed");
        return 1;
    }
    memset(&e, 0, sizeof e);
    e.events = EPOLLIN;
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);

    for (;;) {
        struct epoll_event events[64];
        int n, i, wait = -1;

        tick();
        timers();
        if (next_deadline != NEVER)
            wait = next_deadline - now > 60000 ? 60000 : (int)(next_deadline - now);
        n = epoll_wait(ep, events, 64, wait);
        tick();
        for (i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            uint32_t what = events[i].events;

            if (!c)
                welcome();
            else if (what & EPOLLIN)
                readable(c);
            else if (what & (EPOLLERR | EPOLLHUP))
                hang_up(c);
            else
                advance(c);
        }
    }
}
