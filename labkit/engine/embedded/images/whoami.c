/*
 * whoami: a small HTTP server that says who answers; the course's stand-in for
 * traefik/whoami v1.11, as far as the course asks it.
 *
 * One thread serves every connection from one epoll loop. A request is parsed where it lies in
 * the input and is answered once it is complete, so slow clients cost memory (bounded) and no
 * time. No stdio: the program is a single static file of about 100 kB, small in a machine that
 * is emulated.
 *
 * labkit builds it with tcc and musl (see making.py); so does cc -o whoami whoami.c.
 *
 *     GET /             text: Name, Hostname, IPs, RemoteAddr, then the request as it came,
 *                       headers sorted
 *     GET /api          the same as JSON
 *     GET /health       the stored status, 200 at first; POST a number to change it (here only)
 *
 *     -port N, -name NAME; WHOAMI_PORT_NUMBER, WHOAMI_NAME
 *
 * SIGTERM and SIGINT end it at once, also as process 1 (with status 2, as a Go program does).
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_HEAD 65536u  /* bytes of request line and headers */
#define MAX_BODY 262144u /* bytes of a request's body */
#define MAX_HEADERS 200
#define MAX_CONNECTIONS 4096
#define SILENCE 180 /* s without a byte after which a connection is given up */

/* -- bytes ------------------------------------------------------------------------------- */

struct buf {
    char *p;
    size_t n, cap;
};

static void reserve(struct buf *b, size_t more)
{
    size_t cap = b->cap ? b->cap : 1024;
    char *p;

    if (b->cap - b->n >= more)
        return;
    while (cap - b->n < more)
        cap *= 2;
    if (!(p = realloc(b->p, cap)))
        _exit(1); /* its orchestrator starts another one */
    b->p = p;
    b->cap = cap;
}

static void put(struct buf *b, const char *p, size_t n)
{
    reserve(b, n);
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void puts_(struct buf *b, const char *s) { put(b, s, strlen(s)); }

static void puts3(struct buf *b, const char *x, const char *y, const char *z)
{
    puts_(b, x);
    puts_(b, y);
    puts_(b, z);
}

static void putc_(struct buf *b, char c) { put(b, &c, 1); }

static void putu(struct buf *b, uint64_t v)
{
    char t[24];
    int i = sizeof t;

    do {
        t[--i] = '0' + (char)(v % 10);
        v /= 10;
    } while (v);
    put(b, t + i, sizeof t - (size_t)i);
}

static void put_time(struct buf *b, const char *format)
{
    char t[64];
    time_t s = time(NULL);
    struct tm tm;

    if (gmtime_r(&s, &tm))
        put(b, t, strftime(t, sizeof t, format, &tm));
}

static void drop(struct buf *b, size_t n)
{
    b->n -= n;
    if (b->n)
        memmove(b->p, b->p + n, b->n);
}

struct str {
    const char *p;
    size_t n;
};

static int is(struct str s, const char *lit)
{
    return s.n == strlen(lit) && !memcmp(s.p, lit, s.n);
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

/* Cut off what lies before a character; everything where there is none. */
static struct str cut(struct str *rest, int c)
{
    const char *at = rest->n ? memchr(rest->p, c, rest->n) : NULL;
    struct str first = {rest->p, at ? (size_t)(at - rest->p) : rest->n};

    rest->p += first.n + (at != NULL);
    rest->n -= first.n + (at != NULL);
    return first;
}

/* Is the word, whatever its case, one of the comma-separated ones? */
static int has_word(struct str list, const char *word)
{
    while (list.n) {
        struct str one = trim(cut(&list, ','));

        if (one.n == strlen(word) && !strncasecmp(one.p, word, one.n))
            return 1;
    }
    return 0;
}

static void say(const char *a, const char *b, const char *c)
{
    struct buf line = {0};

    put_time(&line, "%Y/%m/%d %H:%M:%S ");
    puts3(&line, a, b, c);
    putc_(&line, '\n');
    if (write(2, line.p, line.n) < 0)
        errno = 0; /* nobody listens */
    free(line.p);
}

/* -- who am I ---------------------------------------------------------------------------- */

static const char *port_ = "80", *name_ = "";
static unsigned health = 200;
static time_t now;          /* seconds, monotonic */
static char hostname[256];  /* its last byte stays 0 */

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

/* Put an address; one of IPv4 that came to the IPv6 socket as IPv4. */
static void put_ip(struct buf *b, const union address *a)
{
    const int four = a->any.sa_family == AF_INET;
    const void *ip = four ? (const void *)&a->four.sin_addr : &a->six.sin6_addr;
    char text[INET6_ADDRSTRLEN] = "";

    inet_ntop(a->any.sa_family, ip, text, sizeof text);
    puts_(b, !strncmp(text, "::ffff:", 7) && strchr(text, '.') ? text + 7 : text);
}

/* Every address, interface by interface, one a line; looked up again after a second, because
 * a container may be connected to another network while it runs. */
static const struct buf *addresses(void)
{
    static struct buf b;
    static time_t asked = -1;
    struct ifaddrs *all, *link, *a;

    if (now == asked || getifaddrs(&all))
        return &b;
    asked = now;
    b.n = 0;
    for (link = all; link; link = link->ifa_next) {
        if (!link->ifa_addr || link->ifa_addr->sa_family != AF_PACKET)
            continue;
        for (a = all; a; a = a->ifa_next) {
            int family = a->ifa_addr ? a->ifa_addr->sa_family : 0;

            if ((family == AF_INET || family == AF_INET6) && !strcmp(a->ifa_name, link->ifa_name)) {
                put_ip(&b, (union address *)a->ifa_addr);
                putc_(&b, '\n');
            }
        }
    }
    freeifaddrs(all);
    return &b;
}

/* -- connections ------------------------------------------------------------------------- */

struct conn {
    int fd, mask;  /* mask: what epoll watches, -1 while it does not */
    int closing;   /* after what is left to write; 2: what comes is not read */
    size_t sent;   /* bytes of `out` that are gone */
    time_t heard;  /* when the last byte came or went */
    struct buf in, out;
    char peer[INET6_ADDRSTRLEN + 10];
};

static int ep, listener;
static struct conn *conns[MAX_CONNECTIONS]; /* by descriptor */

static void watch(struct conn *c, int mask)
{
    struct epoll_event e = {(uint32_t)mask, {c}};

    if (c->mask == mask)
        return;
    epoll_ctl(ep, c->mask < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &e);
    c->mask = mask;
}

static void hang_up(struct conn *c)
{
    close(c->fd);
    conns[c->fd] = NULL;
    free(c->in.p);
    free(c->out.p);
    free(c);
}

static struct conn *greet(int fd, const union address *from)
{
    struct conn *c = fd < MAX_CONNECTIONS ? calloc(1, sizeof *c) : NULL;
    struct buf b = {0};

    if (!c)
        return NULL;
    c->fd = fd;
    c->mask = -1;
    c->heard = now;
    b.p = c->peer, b.cap = sizeof c->peer;
    put_ip(&b, from);
    if (memchr(b.p, ':', b.n)) { /* [::1]:80 */
        memmove(b.p + 1, b.p, b.n++);
        *b.p = '[';
        putc_(&b, ']');
    }
    putc_(&b, ':');
    putu(&b, ntohs(from->six.sin6_port)); /* it lies at the same place in both */
    putc_(&b, 0);
    return conns[fd] = c;
}

/* -- requests ---------------------------------------------------------------------------- */

struct header {
    struct str key, value;
};

struct request {
    struct str method, target, path, host, body;
    int headers;
    int minor;     /* HTTP/1.minor */
    int close;
    size_t length; /* Content-Length */
    struct header h[MAX_HEADERS]; /* sorted by key, without Host */
};

static struct request r; /* the one being looked at */
static const char BAD[] = "400 Bad Request";

/* Is it made of letters, digits and those others alone? */
static int made_of(struct str s, const char *others)
{
    size_t i;
    for (i = 0; i < s.n; i++)
        if (!s.p[i] || (!isalnum((unsigned char)s.p[i]) && !strchr(others, s.p[i])))
            return 0;
    return 1;
}

static int token(struct str s) { return s.n && made_of(s, "!#$%&'*+-.^_`|~"); }

/* Is there a control character other than a tab, or, in a target, a blank? */
static int controls(struct str s, int blanks)
{
    size_t i;
    for (i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == 127 || (blanks ? c <= ' ' : c < ' ' && c != '\t'))
            return 1;
    }
    return 0;
}

/* content-type becomes Content-Type, in place */
static void canonical(char *p, size_t n)
{
    int first = 1;
    for (; n--; first = *p++ == '-')
        *p = (char)(first ? toupper((unsigned char)*p) : tolower((unsigned char)*p));
}

/* Take the next line of the head, without its end. */
static struct str next_line(char **p, char *end)
{
    char *eol = memchr(*p, '\n', (size_t)(end - *p));
    struct str line = {*p, (size_t)(eol - *p)};

    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    *p = eol + 1;
    return line;
}

/* Read "GET /path HTTP/1.1". Returns NULL, or the status line to refuse it with. */
static const char *parse_line(struct str line)
{
    struct str query;

    r.method = cut(&line, ' ');
    query = r.target = cut(&line, ' ');
    r.path = cut(&query, '?');
    if (line.n != 8 || memcmp(line.p, "HTTP/", 5) || !isdigit((unsigned char)line.p[5]))
        return BAD;
    if (line.p[5] != '1')
        return "505 HTTP Version Not Supported";
    r.minor = line.p[7] != '0';
    return token(r.method) && r.path.n && *r.path.p == '/' && !controls(r.target, 1) ? NULL : BAD;
}

/* Read the head that lies in p[0..n). Returns NULL, or the status line to refuse it with. */
static const char *parse_head(char *p, size_t n)
{
    char *end = p + n;
    int hosts = 0, lengths = 0, keep = 0, i;
    struct str line = next_line(&p, end);
    const char *error;

    memset(&r, 0, offsetof(struct request, h));
    if ((error = parse_line(line)))
        return error;
    while (p < end && (line = next_line(&p, end)).n) {
        struct header h;
        int colon = memchr(line.p, ':', line.n) != NULL;

        h.key = cut(&line, ':');
        h.value = trim(line);
        if (!colon || !token(h.key) || controls(h.value, 0)) /* also folded lines, blanks before the colon */
            return BAD;
        canonical((char *)h.key.p, h.key.n);
        if (is(h.key, "Host")) {
            hosts++;
            r.host = h.value;
            continue;
        }
        if (is(h.key, "Transfer-Encoding"))
            return "501 Not Implemented";
        if (is(h.key, "Content-Length")) {
            for (i = 0; i < (int)h.value.n; i++) {
                if (h.value.p[i] < '0' || h.value.p[i] > '9' || r.length > (size_t)1 << 58)
                    return BAD;
                r.length = r.length * 10 + (size_t)(h.value.p[i] - '0');
            }
            if (!h.value.n || lengths++)
                return BAD;
        }
        if (is(h.key, "Connection")) {
            r.close |= has_word(h.value, "close");
            keep |= has_word(h.value, "keep-alive");
        }
        if (r.headers == MAX_HEADERS)
            return "431 Request Header Fields Too Large";
        for (i = r.headers++; i > 0 && compare(r.h[i - 1].key, h.key) > 0; i--)
            r.h[i] = r.h[i - 1];
        r.h[i] = h;
    }
    if (!r.minor && !keep)
        r.close = 1;
    if (hosts > 1 || (!hosts && r.minor) || !made_of(r.host, "!$%&'()*+,-.:;=[]_~"))
        return BAD;
    return r.length > MAX_BODY ? "413 Request Entity Too Large" : NULL;
}

/* -- answers ----------------------------------------------------------------------------- */

static struct buf body; /* of the answer being made */

static const char TEXT[] = "Content-Type: text/plain; charset=utf-8\r\n";
static const char JSON[] = "Content-Type: application/json\r\n";

/* Put an answer: its head, with the headers of its type if it has a body, and `body`. */
static void answer(struct conn *c, unsigned status, const char *type)
{
    puts_(&c->out, "HTTP/1.1 ");
    putu(&c->out, status);
    puts_(&c->out, status == 200 ? " OK" : status == 400 ? " Bad Request" : " ");
    put_time(&c->out, "\r\nDate: %a, %d %b %Y %H:%M:%S GMT\r\n");
    puts_(&c->out, "Content-Length: ");
    putu(&c->out, body.n);
    puts_(&c->out, "\r\n");
    puts_(&c->out, body.n ? type : "");
    c->closing = r.close;
    if (r.close)
        puts_(&c->out, "Connection: close\r\n");
    else if (!r.minor)
        puts_(&c->out, "Connection: keep-alive\r\n");
    puts_(&c->out, "\r\n");
    if (!is(r.method, "HEAD"))
        put(&c->out, body.p, body.n);
}

static void refuse(struct conn *c, const char *status)
{
    puts3(&c->out, "HTTP/1.1 ", status, "\r\nConnection: close\r\n");
    puts3(&c->out, TEXT, "\r\n", status);
    c->closing = 2;
}

static void put_text(struct buf *b, const char *before, struct str text, const char *after)
{
    puts_(b, before);
    put(b, text.p, text.n);
    puts_(b, after);
}

/* The request as Go writes it: Host, User-Agent, Content-Length, then the rest sorted. */
static void put_request(struct buf *b)
{
    struct str agent = {"Go-http-client/1.1", 18};
    int i, said = 0, writes = is(r.method, "POST") || is(r.method, "PUT") || is(r.method, "PATCH");

    for (i = r.headers - 1; i >= 0; i--)
        if (is(r.h[i].key, "User-Agent"))
            agent = r.h[i].value;
        else if (is(r.h[i].key, "Connection"))
            said |= has_word(r.h[i].value, "close");
    put(b, r.method.p, r.method.n);
    putc_(b, ' ');
    put(b, r.target.p, r.target.n);
    puts_(b, " HTTP/1.1\r\n");
    put_text(b, "Host: ", r.host, "\r\n");
    if (agent.n)
        put_text(b, "User-Agent: ", agent, "\r\n");
    if (r.close && !said)
        puts_(b, "Connection: close\r\n");
    if (r.length || writes) {
        puts_(b, "Content-Length: ");
        putu(b, r.length);
        puts_(b, "\r\n");
    }
    for (i = 0; i < r.headers; i++)
        if (!is(r.h[i].key, "User-Agent") && !is(r.h[i].key, "Content-Length")) {
            put(b, r.h[i].key.p, r.h[i].key.n);
            put_text(b, ": ", r.h[i].value, "\r\n");
        }
    puts_(b, "\r\n");
    put(b, r.body.p, r.body.n);
}

/* Put each line after `before`, and `after` at its end. */
static void put_lines(struct buf *b, const char *before, const struct buf *lines, const char *after)
{
    char *p = lines->p, *end = p + lines->n;

    while (p < end)
        put_text(b, before, next_line(&p, end), after);
}

static void whoami(struct conn *c)
{
    if (*name_)
        puts3(&body, "Name: ", name_, "\n");
    puts3(&body, "Hostname: ", hostname, "\n");
    put_lines(&body, "IP: ", addresses(), "\n");
    puts3(&body, "RemoteAddr: ", c->peer, "\n");
    put_request(&body);
    answer(c, 200, TEXT);
}

/* Put a JSON string; what a header holds is Latin-1, as HTTP has it. */
static void put_json(struct buf *b, struct str text)
{
    putc_(b, '"');
    for (; text.n; text.p++, text.n--) {
        unsigned char c = (unsigned char)*text.p;

        if (c < ' ' || c > '~' || strchr("\"\\<>&", c)) {
            puts_(b, "\\u00");
            putc_(b, "0123456789abcdef"[c >> 4]);
            putc_(b, "0123456789abcdef"[c & 15]);
        } else
            putc_(b, (char)c);
    }
    putc_(b, '"');
}

static void field(struct buf *b, const char *key, const char *text, size_t n)
{
    struct str all = {text, n};

    if (!n)
        return;
    puts3(b, b->n > 1 ? ",\"" : "\"", key, "\":");
    put_json(b, all);
}

static void api(struct conn *c)
{
    const struct buf *ips = addresses();
    int i;

    putc_(&body, '{');
    field(&body, "hostname", hostname, strlen(hostname));
    if (ips->n) { /* an address needs no escapes */
        puts_(&body, ",\"ip\":[");
        put_lines(&body, "\"", ips, "\",");
        body.p[body.n - 1] = ']';
    }
    for (i = 0; i < r.headers; i++) {
        if (i && !compare(r.h[i].key, r.h[i - 1].key))
            putc_(&body, ',');
        else {
            puts_(&body, i ? "]," : ",\"headers\":{");
            put_json(&body, r.h[i].key);
            puts_(&body, ":[");
        }
        put_json(&body, r.h[i].value);
    }
    puts_(&body, r.headers ? "]}" : "");
    field(&body, "url", r.target.p, r.target.n);
    field(&body, "host", r.host.p, r.host.n);
    field(&body, "method", r.method.p, r.method.n);
    field(&body, "name", name_, strlen(name_));
    field(&body, "remoteAddr", c->peer, strlen(c->peer));
    puts_(&body, "}\n");
    answer(c, 200, JSON);
}

static void post_health(struct conn *c)
{
    char text[8] = "", *end;
    unsigned long status;

    memcpy(text, r.body.p, r.body.n < sizeof text ? r.body.n : sizeof text - 1);
    status = strtoul(text, &end, 10);
    if (status < 200 || status > 999 || end[strspn(end, " \t\r\n")]) {
        puts_(&body, "a status code from 200 to 999 is expected\n");
        answer(c, 400, TEXT);
        return;
    }
    *end = 0;
    health = (unsigned)status;
    say("Update health check status code [", text, "]");
    answer(c, 200, TEXT);
}

static void serve(struct conn *c)
{
    body.n = 0;
    if (is(r.path, "/api"))
        api(c);
    else if (is(r.path, "/health") && is(r.method, "POST"))
        post_health(c);
    else if (is(r.path, "/health"))
        answer(c, health, TEXT);
    else
        whoami(c);
}

/* -- the life of a connection ------------------------------------------------------------ */

/* Bytes up to the blank line that ends the headers, 0 when it is not there yet. */
static size_t end_of_head(const struct buf *in)
{
    const char *p = in->p, *end = p + in->n;

    while ((p = memchr(p, '\n', (size_t)(end - p)))) {
        if (++p < end && *p == '\r')
            p++;
        if (p < end && *p == '\n')
            return (size_t)(p + 1 - in->p);
    }
    return 0;
}

/* Look for one whole request in the input and answer it. 0: more input is needed. */
static int take(struct conn *c)
{
    const char *error;
    size_t head, skip = 0;

    while (skip < c->in.n && (c->in.p[skip] == '\r' || c->in.p[skip] == '\n'))
        skip++;
    drop(&c->in, skip);
    head = c->in.n ? end_of_head(&c->in) : 0;
    if (!head && c->in.n < MAX_HEAD)
        return 0;
    error = !head || head > MAX_HEAD ? "431 Request Header Fields Too Large"
                                     : parse_head(c->in.p, head);
    if (error) {
        refuse(c, error);
        return 1;
    }
    if (c->in.n - head < r.length)
        return 0;
    r.body.p = c->in.p + head;
    r.body.n = r.length;
    serve(c);
    drop(&c->in, head + r.length);
    return 1;
}

/* Write what there is. 1: all gone; 0: the client is slow; -1: it is gone. */
static int flush(struct conn *c)
{
    while (c->sent < c->out.n) {
        ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return errno == EAGAIN ? 0 : -1;
        c->sent += n > 0 ? (size_t)n : 0;
        c->heard = now;
    }
    c->sent = c->out.n = 0;
    return 1;
}

/* Go on as far as possible without waiting. */
static void advance(struct conn *c)
{
    for (;;) {
        int done = flush(c);

        if (done < 0) {
            hang_up(c);
            return;
        }
        if (!done) {
            watch(c, EPOLLOUT);
            return;
        }
        if (c->closing) {
            if (c->closing == 1 && !c->in.n) {
                hang_up(c);
                return;
            }
            /* unread input would make close() reset the connection under the answer */
            shutdown(c->fd, SHUT_WR);
            c->closing = 2;
            watch(c, EPOLLIN);
            return;
        }
        if (!take(c)) {
            watch(c, EPOLLIN);
            return;
        }
    }
}

static void readable(struct conn *c)
{
    ssize_t n;

    if (c->closing)
        c->in.n = 0;
    reserve(&c->in, c->in.n < 2048 ? 2048 : 16384);
    n = recv(c->fd, c->in.p + c->in.n, c->in.cap - c->in.n, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        watch(c, EPOLLIN);
        return;
    }
    if (n <= 0) {
        hang_up(c);
        return;
    }
    if (c->closing)
        return;
    c->in.n += (size_t)n;
    c->heard = now;
    advance(c);
}

static void give_up_silent_ones(void)
{
    static time_t looked;
    int fd;

    for (fd = 0; now != looked && fd < MAX_CONNECTIONS; fd++)
        if (conns[fd] && now - conns[fd]->heard > SILENCE)
            hang_up(conns[fd]);
    looked = now;
}

static void welcome(void)
{
    int i;

    for (i = 0; i < 64; i++) {
        union address from;
        socklen_t len = sizeof from;
        int fd = accept4(listener, &from.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct conn *c;

        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                usleep(10000); /* no descriptor is left: do not spin */
            return;
        }
        c = greet(fd, &from);
        if (c)
            readable(c); /* the request has often come already */
        else
            close(fd);
    }
}

/* -- the start --------------------------------------------------------------------------- */

static void at_once(int signal_)
{
    (void)signal_;
    _exit(2);
}

static int open_listener(unsigned long port, int family)
{
    union address a;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;
    socklen_t size = family == AF_INET ? sizeof a.four : sizeof a.six;

    if (fd < 0)
        return -1;
    memset(&a, 0, sizeof a);
    a.any.sa_family = (sa_family_t)family;
    a.six.sin6_port = htons((uint16_t)port); /* it lies at the same place in both */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    return bind(fd, &a.any, size) || listen(fd, 4096) ? -1 : fd;
}

static void settings(int argc, char **argv)
{
    const char *v;
    int i;

    if ((v = getenv("WHOAMI_PORT_NUMBER")) && *v)
        port_ = v;
    if ((v = getenv("WHOAMI_NAME")))
        name_ = v;
    for (i = 1; i < argc; i += 2) {
        const char *flag = argv[i] + strspn(argv[i], "-");

        if (i + 1 < argc && !strcmp(flag, "port"))
            port_ = argv[i + 1];
        else if (i + 1 < argc && !strcmp(flag, "name"))
            name_ = argv[i + 1];
        else {
            say("whoami takes -port N and -name NAME, not ", argv[i], "");
            _exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct epoll_event e = {EPOLLIN, {NULL}};
    unsigned long port;
    char *end;

    settings(argc, argv);
    gethostname(hostname, sizeof hostname - 1);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, at_once); /* process 1 does not get the default of ending */
    signal(SIGINT, at_once);
    port = strtoul(port_, &end, 10);
    if (*end || end == port_ || port > 65535) {
        say("listen tcp: invalid port ", port_, "");
        return 1;
    }
    say("Starting up on port ", port_, "");
    listener = open_listener(port, AF_INET6);
    if (listener < 0) /* a kernel without IPv6 */
        listener = open_listener(port, AF_INET);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || ep < 0) {
        puts3(&body, port_, ": bind: ", strerror(errno));
        putc_(&body, 0);
        say("listen tcp :", body.p, "");
        return 1;
    }
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);

    for (;;) {
        struct epoll_event events[64];
        struct timespec t;
        int n = epoll_wait(ep, events, 64, 60000), i;

        clock_gettime(CLOCK_MONOTONIC, &t);
        now = t.tv_sec;
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
        give_up_silent_ones();
    }
}
