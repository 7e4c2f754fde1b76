/* What one subscriber of `signals` receives, judged: each event's `seq` is one more than the last one's. */
#ifndef BENCHMARKS_LOAD_STREAM_H
#define BENCHMARKS_LOAD_STREAM_H

#include "load_client.h"

#define SEQ_KEY ",\"seq\":"
#define SEQ_KEY_LENGTH (sizeof SEQ_KEY - 1)

/* Over all subscribers. */
struct tally {
    uint64_t deliveries;
    uint64_t lost;     /* events that a hole in `seq`, or a `gap`, says are missing */
    uint64_t gaps;     /* `gap` messages */
    uint64_t disorder; /* events whose `seq` did not go up */
};

/* The number in front of the closing brace of `…,"seq":18}`, read from the end: the rest of an event, which
 * may hold any text, is not looked at. */
static inline uint64_t trailing_seq(const char *text, size_t length) {
    uint64_t seq = 0, weight = 1;
    size_t at = length - 1;
    if (length > 30 && text[at] == '}') {
        while (at > 0 && text[at - 1] >= '0' && text[at - 1] <= '9') {
            at--;
            seq += weight * (uint64_t)(text[at] - '0');
            weight *= 10;
        }
        if (weight > 1 && at >= SEQ_KEY_LENGTH &&
            memcmp(text + at - SEQ_KEY_LENGTH, SEQ_KEY, SEQ_KEY_LENGTH) == 0) {
            return seq;
        }
    }
    die("an event does not end with its `seq`: %.*s", (int)length, text);
}

/* The number behind `key`, or `absent`. For the server's small replies. */
static inline uint64_t number_behind(const char *text, size_t length, const char *key, uint64_t absent) {
    const char *at = memmem(text, length, key, strlen(key));
    if (!at) return absent;
    uint64_t number = 0;
    for (at += strlen(key); at < text + length && *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint64_t)(*at - '0');
    }
    return number;
}

/* An event of a subscriber. True where it is the next one; a hole is counted, and the position moves on. */
static inline bool take_event(struct client *client, const char *text, size_t length, struct tally *tally) {
    uint64_t seq = trailing_seq(text, length);
    tally->deliveries++;
    if (__builtin_expect(seq == client->position + 1, 1)) {
        client->position = seq;
        return true;
    }
    if (seq <= client->position) {
        tally->disorder++;
    } else {
        tally->lost += seq - client->position - 1;
        client->position = seq;
    }
    return false;
}

/* Any other message of a subscriber or publisher. What means that the run is spoilt ends the program. */
static inline void take_reply(struct client *client, const char *text, size_t length, struct tally *tally) {
    if (starts_with(text, length, "{\"type\":\"subscribed\"")) {
        static const char granted[] = "\"channels\":[\"signals\"]";
        if (!memmem(text, length, granted, sizeof granted - 1)) {
            die("the subscription was refused: %.*s", (int)length, text);
        }
        client->position = number_behind(text, length, "\"seq\":", 0);
        client->phase = SUBSCRIBED;
    } else if (starts_with(text, length, "{\"type\":\"gap\"")) {
        uint64_t to = number_behind(text, length, "\"to\":", client->position);
        tally->gaps++;
        if (to > client->position) {
            tally->lost += to - client->position;
            client->position = to;
        }
    } else if (starts_with(text, length, "{\"type\":\"error\"") ||
               starts_with(text, length, "{\"type\":\"goodbye\"")) {
        die("connection %u was told: %.*s", client->number, (int)length, text);
    }
}

static inline bool is_event(const char *text, size_t length) { return length > 2 && text[2] == 'c'; }

/* How long nothing may come before what is missing is given up, and how long the last events are awaited. */
#define QUIET_NS 3000000000ull
#define REST_NS 60000000000ull

/* Takes in what is still on its way at the end of a run, for as long as anything comes. What never comes is
 * lost: without this, an event missing at the very end would look like a slow server. Returns how many
 * deliveries were still coming when REST_NS were over; those are neither. */
static inline uint64_t take_the_rest(struct tally *tally, uint64_t expected) {
    uint64_t before = tally->deliveries, start = now_ns(), quiet_since = start, now = start;
    while (tally->deliveries + tally->lost < expected && now - quiet_since < QUIET_NS &&
           now - start < REST_NS) {
        poll_once(50);
        now = now_ns();
        if (tally->deliveries != before) quiet_since = now;
        before = tally->deliveries;
    }
    uint64_t accounted = tally->deliveries + tally->lost;
    uint64_t missing = accounted < expected ? expected - accounted : 0;
    if (now - quiet_since < QUIET_NS) return missing;
    tally->lost += missing;
    return 0;
}

/* Opens `count` clients and subscribes each to `signals`. */
static inline void open_subscribers(struct client *clients, unsigned count, uint16_t port,
                                    void (*on_text)(struct client *, const char *, size_t)) {
    static const char subscribe[] = "{\"type\":\"subscribe\",\"channels\":[\"signals\"]}";
    for (unsigned i = 0; i < count; i++) {
        clients[i].text = on_text;
        open_client_now(&clients[i], port, i);
        send_text(&clients[i], subscribe, sizeof subscribe - 1);
    }
    uint64_t deadline = now_ns() + 10000000000ull;
    for (unsigned i = 0; i < count; i++) {
        while (clients[i].phase != SUBSCRIBED) {
            if (now_ns() > deadline) die("no `subscribed` on connection %u in 10 s", i);
            poll_once(100);
        }
    }
}

#endif
