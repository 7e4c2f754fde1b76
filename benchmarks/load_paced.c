/* A gentle, even rate: one event a tick, each in a write of its own, so that nothing can batch. */
#include "load_stream.h"

#include <sys/timerfd.h>

static struct tally tally;
static uint32_t *latencies_ns; /* 4.29 s at most; what is longer counts as that */
static uint64_t latencies_room;
static uint64_t ticks_due;

static void on_text(struct client *client, const char *text, size_t length) {
    if (!is_event(text, length)) {
        take_reply(client, text, length, &tally);
        return;
    }
    uint64_t now = now_ns();
    take_event(client, text, length, &tally);
    uint64_t sent = number_behind(text, length, "\"data\":{\"t\":", 0);
    uint64_t latency = now - sent;
    if (tally.deliveries <= latencies_room) {
        latencies_ns[tally.deliveries - 1] = latency < UINT32_MAX ? (uint32_t)latency : UINT32_MAX;
    }
}

static void timer_ready(struct watched *timer, uint32_t events) {
    uint64_t expirations = 0;
    (void)events;
    if (read(timer->fd, &expirations, sizeof expirations) == sizeof expirations) ticks_due += expirations;
}

static void start_timer(struct watched *timer, unsigned rate) {
    long interval = 1000000000l / rate;
    struct timespec step = {.tv_sec = interval / 1000000000l, .tv_nsec = interval % 1000000000l};
    struct itimerspec spec = {.it_interval = step, .it_value = step};
    timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer->fd < 0 || timerfd_settime(timer->fd, 0, &spec, NULL) != 0) die("timerfd: %s", strerror(errno));
    watch(timer);
}

static void publish_one(struct client *publisher, size_t payload) {
    char text[2048];
    int head = snprintf(text, sizeof text,
                        "{\"type\":\"publish\",\"channel\":\"signals\",\"event_type\":\"signal.input.text\","
                        "\"data\":");
    int data = snprintf(text + head, sizeof text - (size_t)head, "{\"t\":%lu,\"priority\":200,\"pad\":\"",
                        now_ns());
    size_t at = (size_t)(head + data);
    size_t padding = payload > (size_t)data + 2 ? payload - (size_t)data - 2 : 0;
    memset(text + at, 'x', padding);
    memcpy(text + at + padding, "\"}}", 3);
    send_text(publisher, text, at + padding + 3);
}

void run_paced(uint16_t port, unsigned subscribers, unsigned rate, unsigned seconds, size_t payload) {
    if (rate == 0 || payload > 1024) die("RATE must be at least 1, PAYLOAD at most 1024");
    uint64_t events = (uint64_t)rate * seconds, published = 0, late = 0;
    uint64_t expected = events * subscribers;
    struct client *clients = allocate(subscribers, sizeof *clients);
    struct outbox outbox = {.room = 1 << 20};
    struct client publisher = {.text = on_text, .outbox = &outbox};
    struct watched timer = {.ready = timer_ready};
    outbox.bytes = allocate(outbox.room, 1);
    latencies_ns = allocate(expected, sizeof *latencies_ns);
    memset(latencies_ns, 0xff, expected * sizeof *latencies_ns); /* the pages exist before the clock runs */
    latencies_room = expected;

    open_subscribers(clients, subscribers, port, on_text);
    open_client_now(&publisher, port, subscribers);
    say("ready");
    if (!await_line(now_ns() + 30000000000ull)) die("nobody said a line on the standard input in 30 s");

    double cpu = own_cpu_seconds();
    uint64_t start = now_ns();
    start_timer(&timer, rate);
    while (published < events) {
        poll_once(50);
        /* A tick that was missed is made up for, in a write of its own, and counted. */
        uint64_t due = ticks_due < events ? ticks_due : events;
        if (due > published + 1) late += due - published - 1;
        for (; published < due; published++) publish_one(&publisher, payload);
    }
    uint64_t pending = take_the_rest(&tally, expected);
    double elapsed = (double)(now_ns() - start) / 1e9;
    cpu = own_cpu_seconds() - cpu;

    size_t count = tally.deliveries < expected ? tally.deliveries : expected;
    printf("{\"mode\":\"paced\",\"subscribers\":%u,\"events\":%lu,\"deliveries\":%lu,\"seconds\":%.6f,"
           "\"lost\":%lu,\"gaps\":%lu,\"disorder\":%lu,\"pending\":%lu,\"late_ticks\":%lu,"
           "\"latency_p50_us\":%.1f,\"latency_p99_us\":%.1f,\"latency_max_us\":%.1f,\"load_cpu_s\":%.6f}\n",
           subscribers, published, tally.deliveries, elapsed, tally.lost, tally.gaps, tally.disorder, pending,
           late, percentile(latencies_ns, count, 0.5) / 1e3, percentile(latencies_ns, count, 0.99) / 1e3,
           percentile(latencies_ns, count, 1.0) / 1e3, cpu);
    fflush(stdout);
    await_line(now_ns() + 30000000000ull);
}
