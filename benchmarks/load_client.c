#include "load_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* The example key of RFC 6455 and the answer to it: what the server must send is known beforehand. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#define READY_AT_ONCE 256
#define OPEN_TIMEOUT_S 10
/* One source address has some 28,000 ports; far fewer are used of each, for other programs need some too. */
#define CLIENTS_PER_ADDRESS 2000

static int epoll_fd = -1;
static uint8_t inbox[INBOX_SIZE];
static uint32_t mask_state = 1;

/* xorshift32: a mask must differ from frame to frame, it need not be secret here. */
static void next_mask(uint8_t mask[4]) {
    mask_state ^= mask_state << 13;
    mask_state ^= mask_state >> 17;
    mask_state ^= mask_state << 5;
    memcpy(mask, &mask_state, 4);
}

void begin_clients(unsigned seconds) {
    raise_open_files();
    signal(SIGPIPE, SIG_IGN);
    alarm(seconds);
    mask_state = (uint32_t)now_ns() | 1;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) die("epoll_create1: %s", strerror(errno));
}

static void change_interest(struct watched *watched, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watched};
    if (epoll_ctl(epoll_fd, operation, watched->fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

void watch(struct watched *watched) { change_interest(watched, EPOLL_CTL_ADD, EPOLLIN); }

void poll_once(int timeout_ms) {
    struct epoll_event events[READY_AT_ONCE];
    int count = epoll_wait(epoll_fd, events, READY_AT_ONCE, timeout_ms);
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct watched *watched = events[i].data.ptr;
        watched->ready(watched, events[i].events);
    }
}

/* ---- writing ---- */

static void queue_frame(struct outbox *outbox, enum opcode opcode, const uint8_t *payload, size_t length) {
    if (outbox->start == outbox->end) outbox->start = outbox->end = 0;
    if (outbox->room - outbox->end < length + FRAME_HEAD_MAX) {
        memmove(outbox->bytes, outbox->bytes + outbox->start, outbox->end - outbox->start);
        outbox->end -= outbox->start;
        outbox->start = 0;
    }
    if (outbox->room - outbox->end < length + FRAME_HEAD_MAX) die("the publisher's buffer is too small");
    uint8_t mask[4];
    next_mask(mask);
    outbox->end += write_frame_head(outbox->bytes + outbox->end, opcode, length, mask);
    apply_mask(outbox->bytes + outbox->end, payload, length, mask);
    outbox->end += length;
}

void queue_text(struct outbox *outbox, const char *text, size_t length) {
    queue_frame(outbox, OP_TEXT, (const uint8_t *)text, length);
}

void flush_outbox(struct client *client) {
    struct outbox *outbox = client->outbox;
    while (outbox->start < outbox->end) {
        ssize_t count = write(client->watched.fd, outbox->bytes + outbox->start, outbox->end - outbox->start);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) {
            change_interest(&client->watched, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (count < 0) die("the server has gone while events were published: %s", strerror(errno));
        outbox->start += (size_t)count;
    }
}

static void send_frame(struct client *client, enum opcode opcode, const uint8_t *payload, size_t length) {
    if (client->outbox) {
        /* Behind what is queued: a frame inside another one would break the stream. */
        queue_frame(client->outbox, opcode, payload, length);
        flush_outbox(client);
        return;
    }
    /* Frames of clients without an outbox are few and small: a socket that refuses one is an error. */
    uint8_t frame[1024];
    uint8_t mask[4];
    if (length > sizeof frame - FRAME_HEAD_MAX) die("a message of %zu bytes is too long to send", length);
    next_mask(mask);
    size_t size = write_frame_head(frame, opcode, length, mask);
    apply_mask(frame + size, payload, length, mask);
    size += length;
    ssize_t count = write(client->watched.fd, frame, size);
    bool over = count < 0 && (errno == EPIPE || errno == ECONNRESET);
    if (count != (ssize_t)size && !over) die("connection %u did not take %zu bytes", client->number, size);
}

void send_text(struct client *client, const char *text, size_t length) {
    send_frame(client, OP_TEXT, (const uint8_t *)text, length);
}

/* ---- reading ---- */

static void lose_client(struct client *client, const char *why) {
    if (!client->gone) die("the server ended connection %u: %s", client->number, why);
    close(client->watched.fd);
    client->phase = GONE;
    client->gone(client);
}

/* Returns how many bytes the answer to the upgrade takes; 0 while it is not whole. */
static size_t take_handshake(struct client *client, const uint8_t *bytes, size_t have) {
    const uint8_t *end = memmem(bytes, have, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t length = (size_t)(end - bytes) + 4;
    bool switched = starts_with((const char *)bytes, have, "HTTP/1.1 101");
    if (!switched || !memmem(bytes, length, ACCEPT, strlen(ACCEPT))) {
        int line = (int)((const uint8_t *)memchr(bytes, '\r', have) - bytes);
        die("the upgrade on /ws was answered with: %.*s", line, (const char *)bytes);
    }
    client->phase = OPEN;
    return length;
}

static void take_text(struct client *client, const char *text, size_t length) {
    if (client->phase == OPEN) {
        if (!starts_with(text, length, "{\"type\":\"connected\"")) {
            die("the first message is not `connected`: %.*s", (int)length, text);
        }
        client->phase = CONNECTED;
    }
    client->text(client, text, length);
}

static void take_close(struct client *client, const uint8_t *payload, size_t length) {
    char why[160];
    int code = length >= 2 ? payload[0] << 8 | payload[1] : 1005;
    int reason = length >= 2 ? (int)length - 2 : 0;
    snprintf(why, sizeof why, "close %d %.*s", code, reason, (const char *)payload + 2);
    send_frame(client, OP_CLOSE, payload, length < 2 ? 0 : 2);
    lose_client(client, why);
}

static void take_frame(struct client *client, const struct frame *frame, const uint8_t *payload) {
    if (!frame->final || frame->masked) die("connection %u got a fragmented or masked frame", client->number);
    switch (frame->opcode) {
    case OP_TEXT: take_text(client, (const char *)payload, frame->length); break;
    case OP_PING: send_frame(client, OP_PONG, payload, frame->length); break;
    case OP_CLOSE: take_close(client, payload, frame->length); break;
    case OP_PONG: break;
    default: die("connection %u got a frame of opcode %d", client->number, frame->opcode);
    }
}

static void read_client(struct client *client) {
    ssize_t count = read_behind_rest(client->watched.fd, &client->rest, inbox);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        lose_client(client, count == 0 ? "end of stream" : strerror(errno));
        return;
    }
    size_t have = (size_t)count;
    size_t at = client->phase == HANDSHAKE ? take_handshake(client, inbox, have) : 0;
    struct frame frame;
    while (client->phase != HANDSHAKE && read_frame_head(inbox + at, have - at, &frame) &&
           have - at - frame.head >= frame.length) {
        take_frame(client, &frame, inbox + at + frame.head);
        if (client->phase == GONE) return;
        at += frame.head + frame.length;
    }
    keep_rest(&client->rest, inbox + at, have - at);
}

static void client_ready(struct watched *watched, uint32_t events) {
    struct client *client = (struct client *)watched;
    if (events & EPOLLOUT) {
        change_interest(watched, EPOLL_CTL_MOD, EPOLLIN);
        flush_outbox(client);
    }
    if (events & ~(uint32_t)EPOLLOUT) read_client(client);
}

/* ---- opening ---- */

void open_client(struct client *client, uint16_t port, unsigned number) {
    struct timeval timeout = {.tv_sec = OPEN_TIMEOUT_S};
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in own = {.sin_family = AF_INET};
    int on = 1;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / CLIENTS_PER_ADDRESS);

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %s; raise the limit of open files (ulimit -Hn)", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* The port is chosen by connect(), which may take one that is in use towards another server. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (bind(fd, (struct sockaddr *)&own, sizeof own) != 0) die("bind: %s", strerror(errno));

    client->watched = (struct watched){.fd = fd, .ready = client_ready};
    client->phase = HANDSHAKE;
    client->number = number;
    client->started_ns = now_ns();
    /* On loopback this returns as soon as the kernel has queued the connection; the server need not run. */
    if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0) {
        die("connect to 127.0.0.1:%u: %s; is the server listening there?", port, strerror(errno));
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    char request[256];
    int length = snprintf(request, sizeof request,
                          "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
                          "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          port);
    if (write(fd, request, (size_t)length) != length) die("connection %u refused the request", number);
    watch(&client->watched);
}

void open_client_now(struct client *client, uint16_t port, unsigned number) {
    open_client(client, port, number);
    uint64_t deadline = client->started_ns + OPEN_TIMEOUT_S * 1000000000ull;
    while (client->phase < CONNECTED) {
        if (now_ns() > deadline) die("no `connected` on connection %u in %d s", number, OPEN_TIMEOUT_S);
        poll_once(100);
    }
}

/* ---- the one who started this program ---- */

static unsigned lines_seen;
static bool input_over;

static void input_ready(struct watched *watched, uint32_t events) {
    char text[256];
    (void)events;
    ssize_t count = read(watched->fd, text, sizeof text);
    for (ssize_t i = 0; i < count; i++) lines_seen += text[i] == '\n';
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) {
        input_over = true;
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watched->fd, NULL);
    }
}

bool await_line(uint64_t deadline_ns) {
    static struct watched input = {.fd = -1, .ready = input_ready};
    if (input.fd < 0) {
        input.fd = STDIN_FILENO;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &input};
        /* epoll refuses files and /dev/null: nobody is there to say a line. */
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, input.fd, &event) != 0) input_over = true;
    }
    while (lines_seen == 0 && !input_over) {
        if (now_ns() > deadline_ns) return false;
        poll_once(20);
    }
    if (lines_seen > 0) lines_seen--;
    return true;
}

void say(const char *line) {
    puts(line);
    fflush(stdout);
}

double own_cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int compare_values(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

uint32_t percentile(uint32_t *values, size_t count, double share) {
    if (count == 0) return 0;
    qsort(values, count, sizeof *values, compare_values);
    return values[(size_t)(share * (double)(count - 1) + 0.5)];
}
