/* WebSocket clients by the thousand, on one epoll and one thread. */
#ifndef BENCHMARKS_LOAD_CLIENT_H
#define BENCHMARKS_LOAD_CLIENT_H

#include "wire.h"

/* Anything epoll watches: a client, the standard input, a timer. */
struct watched {
    int fd;
    void (*ready)(struct watched *watched, uint32_t events);
};

enum phase {
    HANDSHAKE, /* the upgrade's answer is awaited */
    OPEN,      /* the server's `connected` is awaited */
    CONNECTED,
    SUBSCRIBED,
    GONE,
};

/* Bytes which the socket has not taken yet. Only the publisher has one: what the others send always fits. */
struct outbox {
    uint8_t *bytes;
    size_t start;
    size_t end;
    size_t room;
};

struct client {
    struct watched watched; /* first, so that a watched client can be cast back */
    enum phase phase;
    unsigned number;
    uint64_t started_ns; /* when connect() began */
    uint64_t position;   /* `seq` of the last event seen, or where the subscription began */
    struct rest rest;
    struct outbox *outbox;
    /* Called for each text message after `connected`, and for `connected` itself. The text has no NUL. */
    void (*text)(struct client *client, const char *text, size_t length);
    /* Called when the server ends the connection; NULL ends the program instead. */
    void (*gone)(struct client *client);
};

/* Prepares epoll, signals and limits; ends the program after `seconds`, whatever hangs. */
void begin_clients(unsigned seconds);

/* Connects, asks for the upgrade and returns; `text` is called when the server has said `connected`. */
void open_client(struct client *client, uint16_t port, unsigned number);

/* Opens a client and waits for `connected`. */
void open_client_now(struct client *client, uint16_t port, unsigned number);

/* Sends one masked text frame. */
void send_text(struct client *client, const char *text, size_t length);

/* Appends one masked text frame to the outbox, for flush_outbox to write. */
void queue_text(struct outbox *outbox, const char *text, size_t length);
void flush_outbox(struct client *client);

void watch(struct watched *watched);

/* Waits up to `timeout_ms` for anything to be ready, and deals with it. */
void poll_once(int timeout_ms);

/* Says `line` on the standard output, at once. */
void say(const char *line);

/* Waits for a line, or the end, of the standard input; answers pings meanwhile. False at the deadline. */
bool await_line(uint64_t deadline_ns);

/* This process's own CPU time, user and system. */
double own_cpu_seconds(void);

/* Sorts in place. `share` is 0.5 for the median, 1.0 for the maximum. */
uint32_t percentile(uint32_t *values, size_t count, double share);

#endif
