/* Saturated fan-out: a closed loop of WINDOW events in flight, done when the slowest subscriber has them. */
#include "load_stream.h"

#define WINDOW 1024
/* The slowest subscriber is found by counting, for every MARK-th event, how many have reached it: no
 * subscriber is ever compared with another. WINDOW is a multiple of MARK. */
#define MARK 16
/* The fastest subscriber is WINDOW events ahead of the slowest at most. */
#define MARKS_KEPT (2 * WINDOW / MARK)

static struct tally tally;
static unsigned subscriber_count;
static uint64_t first_position; /* `seq` before the first event of this run */
static unsigned reached[MARKS_KEPT];
static uint64_t done; /* events which every subscriber has, in whole marks */
static uint64_t published_ns[MARKS_KEPT]; /* when the event of each mark was published */
static uint32_t *latencies_ns;            /* from then until the slowest subscriber had it, by mark */

static void reach_mark(uint64_t mark) {
    unsigned *count = &reached[mark % MARKS_KEPT];
    if (++*count == subscriber_count) {
        *count = 0;
        done = mark * MARK;
        latencies_ns[mark - 1] = (uint32_t)(now_ns() - published_ns[mark % MARKS_KEPT]);
    }
}

static void advance(uint64_t from, uint64_t to) {
    for (uint64_t mark = from / MARK + 1; mark <= to / MARK; mark++) reach_mark(mark);
}

static void on_text(struct client *client, const char *text, size_t length) {
    uint64_t before = client->position;
    bool was_subscribed = client->phase == SUBSCRIBED;
    if (is_event(text, length)) {
        if (take_event(client, text, length, &tally)) {
            uint64_t position = client->position - first_position;
            if (position % MARK == 0) reach_mark(position / MARK);
            return;
        }
    } else {
        take_reply(client, text, length, &tally);
    }
    if (was_subscribed) advance(before - first_position, client->position - first_position);
}

/* One publish message; only the digits of its `event_id` change. */
struct message {
    char *text;
    size_t length;
    char *digits;
};

#define DIGITS 10

static struct message make_message(size_t payload) {
    static const char head[] = "{\"type\":\"publish\",\"channel\":\"signals\","
                               "\"event_type\":\"signal.input.text\",\"data\":";
    static const char data[] = "{\"event_id\":\"evt-0000000000\",\"is_novel\":true,\"priority\":200,"
                               "\"neighbors_count\":12,\"pad\":\"";
    size_t least = sizeof data - 1 + 2;
    if (payload < least) die("PAYLOAD, the bytes of an event's `data`, must be at least %zu", least);
    struct message message = {.length = sizeof head - 1 + payload + 1};
    message.text = allocate(message.length + 1, 1);
    char *at = message.text + sprintf(message.text, "%s%s", head, data);
    memset(at, 'x', payload - least);
    memcpy(at + payload - least, "\"}}", 3);
    message.digits = message.text + sizeof head - 1 + strlen("{\"event_id\":\"evt-");
    return message;
}

static void number_message(struct message *message, uint64_t number) {
    for (int i = DIGITS - 1; i >= 0; i--, number /= 10) message->digits[i] = (char)('0' + number % 10);
}

/* Keeps the window full until every subscriber has every event, or the time is over. Returns how many events
 * were published. */
static uint64_t publish_all(struct client *publisher, struct message *message, uint64_t events,
                            uint64_t deadline) {
    uint64_t published = 0;
    while (done < events && now_ns() < deadline) {
        uint64_t allowed = done + WINDOW < events ? done + WINDOW : events;
        if (published < allowed) {
            uint64_t now = now_ns();
            while (published < allowed) {
                number_message(message, published++);
                queue_text(publisher->outbox, message->text, message->length);
                if (published % MARK == 0) published_ns[published / MARK % MARKS_KEPT] = now;
            }
            flush_outbox(publisher);
        }
        poll_once(50);
    }
    return published;
}

void run_saturate(uint16_t port, unsigned subscribers, uint64_t events, size_t payload, unsigned limit_s) {
    struct message message = make_message(payload);
    struct client *clients = allocate(subscribers, sizeof *clients);
    struct outbox outbox = {.room = 2 * WINDOW * (message.length + FRAME_HEAD_MAX)};
    struct client publisher = {.text = on_text, .outbox = &outbox};
    outbox.bytes = allocate(outbox.room, 1);
    subscriber_count = subscribers;
    events = (events + MARK - 1) / MARK * MARK;
    latencies_ns = allocate(events / MARK, sizeof *latencies_ns);

    open_subscribers(clients, subscribers, port, on_text);
    open_client_now(&publisher, port, subscribers);
    first_position = clients[0].position;
    say("ready");
    if (!await_line(now_ns() + 30000000000ull)) die("nobody said a line on the standard input in 30 s");

    double cpu = own_cpu_seconds();
    uint64_t start = now_ns();
    uint64_t published = publish_all(&publisher, &message, events, start + limit_s * 1000000000ull);
    double seconds = (double)(now_ns() - start) / 1e9;
    double events_per_s = (double)done / seconds, deliveries_per_s = (double)tally.deliveries / seconds;
    bool completed = done >= events;
    cpu = own_cpu_seconds() - cpu;
    uint64_t marks = done / MARK;
    uint64_t pending = take_the_rest(&tally, published * subscribers);
    printf("{\"mode\":\"saturate\",\"subscribers\":%u,\"events\":%lu,\"completed\":%s,\"deliveries\":%lu,"
           "\"seconds\":%.6f,\"events_per_s\":%.1f,\"deliveries_per_s\":%.1f,\"lost\":%lu,\"gaps\":%lu,"
           "\"disorder\":%lu,\"pending\":%lu,\"latency_p50_us\":%.1f,\"latency_p99_us\":%.1f,"
           "\"load_cpu_s\":%.6f}\n",
           subscribers, published, completed ? "true" : "false", tally.deliveries, seconds, events_per_s,
           deliveries_per_s, tally.lost, tally.gaps, tally.disorder, pending,
           percentile(latencies_ns, marks, 0.5) / 1e3, percentile(latencies_ns, marks, 0.99) / 1e3, cpu);
    fflush(stdout);
    /* The connections stay until the server's CPU time has been read: closing thousands costs it some. */
    await_line(now_ns() + 30000000000ull);
}
