/* The floor: a program that does the same writes as the router and nothing else.
 *
 * One thread, one epoll. It answers the handshake, says `connected`, answers `subscribe`, and puts each
 * published event into a new envelope with the next `seq`. The events of one read are joined into one buffer,
 * which is written to each subscriber. There is no JSON parser, no permission, no history, no filter, no
 * second channel: what the router costs above this is the price of what it does besides writing.
 *
 * Prints `listening PORT` and runs until it is ended. */
#include "wire.h"

#include "accept_key.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define READY_AT_ONCE 256
/* What one connection may leave unread, as in the router; one that leaves more is ended. */
#define BACKLOG_MAX (4 * 1024 * 1024)
/* The router's own setting of SO_SNDBUF. */
#define SEND_BUFFER (256 * 1024)
/* An event grows by its envelope: at most by this over the publish message it comes from. */
#define ENVELOPE_MAX 128

struct connection {
    int fd;
    bool open;       /* the handshake is done */
    bool subscribed; /* it is in `subscribers` */
    bool over;       /* to be closed at the end of the round */
    struct rest rest;
    uint8_t *backlog; /* what the kernel has refused: backlog[start..end) */
    size_t start, end, room;
};

static int epoll_fd = -1;
static uint64_t seq;
static uint8_t inbox[INBOX_SIZE];

/* The frames of one read, for everyone. An envelope less than doubles the smallest event; should the frames
 * not fit all the same, they are flushed in two parts. */
static uint8_t batch[4 * INBOX_SIZE];
static size_t batch_length;

static struct connection **subscribers;
static size_t subscriber_count, subscriber_room;
static struct connection **ended;
static size_t ended_count, ended_room;

static void append(struct connection ***list, size_t *count, size_t *room, struct connection *connection) {
    if (*count == *room) {
        *room = *room ? 2 * *room : 64;
        *list = realloc(*list, *room * sizeof **list);
        if (!*list) die("out of memory for %zu connections", *room);
    }
    (*list)[(*count)++] = connection;
}

static void end_connection(struct connection *connection) {
    if (connection->over) return;
    connection->over = true;
    append(&ended, &ended_count, &ended_room, connection);
}

static void close_ended(void) {
    for (size_t i = 0; i < ended_count; i++) {
        for (size_t j = 0; ended[i]->subscribed && j < subscriber_count; j++) {
            if (subscribers[j] != ended[i]) continue;
            subscribers[j] = subscribers[--subscriber_count];
            break;
        }
        close(ended[i]->fd);
        free(ended[i]->rest.bytes);
        free(ended[i]->backlog);
        free(ended[i]);
    }
    ended_count = 0;
}

/* ---- writing ---- */

static void want_write(struct connection *connection, bool wanted) {
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = connection};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Returns how many bytes the kernel took. */
static size_t write_some(struct connection *connection, const uint8_t *bytes, size_t length) {
    ssize_t count = write(connection->fd, bytes, length);
    if (count >= 0) return (size_t)count;
    if (errno != EAGAIN && errno != EINTR) end_connection(connection);
    return 0;
}

static void keep_backlog(struct connection *connection, const uint8_t *bytes, size_t length) {
    size_t held = connection->end - connection->start;
    if (held + length > BACKLOG_MAX) {
        fprintf(stderr, "baseline: a connection left more than %d bytes unread and is ended\n", BACKLOG_MAX);
        end_connection(connection);
        return;
    }
    if (connection->end + length > connection->room) {
        size_t room = connection->room ? connection->room : INBOX_SIZE;
        while (room < held + length) room *= 2;
        uint8_t *larger = allocate(room, 1);
        if (held) memcpy(larger, connection->backlog + connection->start, held);
        free(connection->backlog);
        connection->backlog = larger;
        connection->room = room;
        connection->start = 0;
        connection->end = held;
    }
    memcpy(connection->backlog + connection->end, bytes, length);
    connection->end += length;
}

static void send_bytes(struct connection *connection, const uint8_t *bytes, size_t length) {
    if (connection->over) return;
    bool queued = connection->start < connection->end;
    size_t taken = queued ? 0 : write_some(connection, bytes, length);
    if (taken == length || connection->over) return;
    keep_backlog(connection, bytes + taken, length - taken);
    if (!queued) want_write(connection, true);
}

static void flush_backlog(struct connection *connection) {
    uint8_t *from = connection->backlog + connection->start;
    connection->start += write_some(connection, from, connection->end - connection->start);
    if (connection->start < connection->end) return;
    connection->start = connection->end = 0;
    want_write(connection, false);
}

static void flush_batch(void) {
    if (batch_length == 0) return;
    for (size_t i = 0; i < subscriber_count; i++) send_bytes(subscribers[i], batch, batch_length);
    batch_length = 0;
}

/* Replies and control frames only: `length` is at most 512. */
static void send_frame(struct connection *connection, enum opcode opcode, const void *payload,
                       size_t length) {
    uint8_t frame[FRAME_HEAD_MAX + 512];
    if (length > 512) return;
    size_t size = write_frame_head(frame, opcode, length, NULL);
    memcpy(frame + size, payload, length);
    send_bytes(connection, frame, size + length);
}

/* ---- messages ---- */

/* UTC with milliseconds. The part down to the second is rendered once a second. */
static const char *timestamp(void) {
    static char text[sizeof "2024-12-29T12:00:00.123Z"];
    static time_t second = -1;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second) {
        struct tm calendar;
        second = now.tv_sec;
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000Z", gmtime_r(&second, &calendar));
    }
    unsigned milliseconds = (unsigned)(now.tv_nsec / 1000000);
    text[20] = (char)('0' + milliseconds / 100);
    text[21] = (char)('0' + milliseconds / 10 % 10);
    text[22] = (char)('0' + milliseconds % 10);
    return text;
}

static uint8_t *put(uint8_t *to, const void *bytes, size_t length) {
    memcpy(to, bytes, length);
    return to + length;
}

#define PUT_TEXT(to, text) put(to, text, sizeof text - 1)

static uint8_t *put_number(uint8_t *to, uint64_t number) {
    uint8_t digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (uint8_t)('0' + number % 10);
    while (number /= 10);
    return put(to, digits + at, sizeof digits - at);
}

/* `"event_type":"…"` and `"data":{…}` are cut out of the message as they stand; `data` must be the last. */
static void take_publish(const char *text, size_t length, const char *stamp) {
    const char *type = memmem(text, length, "\"event_type\":\"", 14);
    const char *data = memmem(text, length, "\"data\":", 7);
    const char *type_end = type ? memchr(type + 14, '"', (size_t)(text + length - type - 14)) : NULL;
    if (!type_end || !data) die("a publish message has no `event_type` or `data`: %.*s", (int)length, text);
    if (sizeof batch - batch_length < length + ENVELOPE_MAX) flush_batch();

    /* The body goes where it belongs behind a head of the usual four bytes, and moves where the head, whose
     * length is known only then, is another one. */
    uint8_t *body = batch + batch_length + 4, *to = body;
    to = PUT_TEXT(to, "{\"channel\":\"signals\",\"timestamp\":\"");
    to = put(to, stamp, strlen("2024-12-29T12:00:00.123Z"));
    to = PUT_TEXT(to, "\",");
    to = put(to, type, (size_t)(type_end + 1 - type));
    to = PUT_TEXT(to, ",");
    to = put(to, data, (size_t)(text + length - 1 - data));
    to = PUT_TEXT(to, ",\"seq\":");
    to = put_number(to, ++seq);
    to = PUT_TEXT(to, "}");
    size_t size = (size_t)(to - body);
    uint8_t head[FRAME_HEAD_MAX];
    size_t head_size = write_frame_head(head, OP_TEXT, size, NULL);
    if (head_size != 4) memmove(batch + batch_length + head_size, body, size);
    memcpy(batch + batch_length, head, head_size);
    batch_length += head_size + size;
}

static void take_subscribe(struct connection *connection) {
    char reply[256];
    int length = snprintf(reply, sizeof reply,
                          "{\"type\":\"subscribed\",\"channels\":[\"signals\"],\"timestamp\":\"%s\","
                          "\"positions\":{\"signals\":{\"epoch\":\"baseline\",\"seq\":%lu}}}",
                          timestamp(), seq);
    flush_batch(); /* what was published before belongs to the others only */
    send_frame(connection, OP_TEXT, reply, (size_t)length);
    if (connection->subscribed) return;
    connection->subscribed = true;
    append(&subscribers, &subscriber_count, &subscriber_room, connection);
}

static void take_text(struct connection *connection, const char *text, size_t length, const char *stamp) {
    if (starts_with(text, length, "{\"type\":\"publish\"")) {
        take_publish(text, length, stamp);
    } else if (starts_with(text, length, "{\"type\":\"subscribe\"")) {
        take_subscribe(connection);
    }
}

static void say_connected(struct connection *connection) {
    char text[512];
    int length = snprintf(text, sizeof text,
                          "{\"type\":\"connected\",\"client_id\":\"00000000-0000-4000-8000-000000000000\","
                          "\"user_id\":null,\"timestamp\":\"%s\",\"role\":\"admin\",\"reconnected\":false,"
                          "\"protocol\":1,\"epoch\":\"baseline\",\"heartbeat_s\":30,"
                          "\"max_message_bytes\":65536,\"reconnection_token\":\"none\",\"expires_in\":300}",
                          timestamp());
    send_frame(connection, OP_TEXT, text, (size_t)length);
}

/* Returns how many bytes the request takes; 0 while it is not whole. */
static size_t take_handshake(struct connection *connection, const uint8_t *bytes, size_t have) {
    const char *text = (const char *)bytes;
    const char *end = memmem(text, have, "\r\n\r\n", 4);
    if (!end) return 0;
    const char *key = NULL;
    for (const char *line = text; line && line < end; line = memmem(line, (size_t)(end - line), "\r\n", 2)) {
        if (*line == '\r') line += 2;
        if (strncasecmp(line, "sec-websocket-key:", 18) == 0) key = line + 18 + strspn(line + 18, " \t");
    }
    if (!key || end - key < KEY_LENGTH) {
        static const char refusal[] = "HTTP/1.1 426 Upgrade Required\r\n"
                                      "Content-Length: 0\r\nConnection: close\r\n\r\n";
        send_bytes(connection, (const uint8_t *)refusal, sizeof refusal - 1);
        end_connection(connection);
        return have;
    }
    char accept[ACCEPT_LENGTH + 1], answer[256];
    accept_key(key, accept);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          accept);
    send_bytes(connection, (const uint8_t *)answer, (size_t)length);
    connection->open = true;
    say_connected(connection);
    return (size_t)(end + 4 - text);
}

/* ---- reading ---- */

static void take_frame(struct connection *connection, const struct frame *frame, uint8_t *payload,
                       const char *stamp) {
    apply_mask(payload, payload, frame->length, frame->mask);
    if (frame->opcode == OP_TEXT && frame->final) {
        take_text(connection, (const char *)payload, frame->length, stamp);
    } else if (frame->opcode == OP_PING) {
        flush_batch();
        send_frame(connection, OP_PONG, payload, frame->length);
    } else if (frame->opcode != OP_PONG) {
        flush_batch();
        send_frame(connection, OP_CLOSE, payload, frame->opcode == OP_CLOSE && frame->length >= 2 ? 2 : 0);
        end_connection(connection);
    }
}

static void read_connection(struct connection *connection) {
    ssize_t count = read_behind_rest(connection->fd, &connection->rest, inbox);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        end_connection(connection);
        return;
    }
    size_t have = (size_t)count;
    size_t at = connection->open ? 0 : take_handshake(connection, inbox, have);
    const char *stamp = timestamp();
    struct frame frame;
    while (connection->open && !connection->over && read_frame_head(inbox + at, have - at, &frame) &&
           have - at - frame.head >= frame.length) {
        if (!frame.masked) die("a client sent a frame without a mask");
        take_frame(connection, &frame, inbox + at + frame.head, stamp);
        at += frame.head + frame.length;
    }
    flush_batch();
    keep_rest(&connection->rest, inbox + at, have - at);
}

/* ---- the listener ---- */

static void accept_connection(int listener) {
    int on = 1, size = SEND_BUFFER;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        bool full = errno == EMFILE || errno == ENFILE;
        if (full) die("accept: %s; raise the limit of open files (ulimit -Hn)", strerror(errno));
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct connection *connection = allocate(1, sizeof *connection);
    connection->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

static int listen_on(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        die("cannot listen on 127.0.0.1:%u: %s; give another port, or 0 for any", port, strerror(errno));
    }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("listening %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int count, char **words) {
    raise_open_files();
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(count > 1 ? (uint16_t)atoi(words[1]) : 0);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll_ctl: %s", strerror(errno));
    for (;;) {
        struct epoll_event events[READY_AT_ONCE];
        int ready = epoll_wait(epoll_fd, events, READY_AT_ONCE, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection) {
                accept_connection(listener);
                continue;
            }
            if (connection->over) continue;
            if (events[i].events & EPOLLOUT && connection->start < connection->end) flush_backlog(connection);
            if (events[i].events & ~(uint32_t)EPOLLOUT && !connection->over) read_connection(connection);
        }
        close_ended();
    }
}
