/* Subscribers alone: somebody else publishes. Judges that every event comes, in order. */
#include "load_stream.h"

static struct tally tally;
static uint64_t first_ns, last_ns;

static void on_text(struct client *client, const char *text, size_t length) {
    if (!is_event(text, length)) {
        take_reply(client, text, length, &tally);
        return;
    }
    if (!tally.deliveries) first_ns = now_ns();
    take_event(client, text, length, &tally);
}

void run_listen(uint16_t port, unsigned subscribers, uint64_t events, unsigned limit_s) {
    struct client *clients = allocate(subscribers, sizeof *clients);
    uint64_t expected = events * subscribers;

    open_subscribers(clients, subscribers, port, on_text);
    say("ready");
    if (!await_line(now_ns() + 30000000000ull)) die("nobody said a line on the standard input in 30 s");

    double cpu = own_cpu_seconds();
    uint64_t deadline = now_ns() + limit_s * 1000000000ull;
    while (tally.deliveries + tally.lost < expected && now_ns() < deadline) poll_once(50);
    last_ns = now_ns();
    cpu = own_cpu_seconds() - cpu;
    uint64_t pending = take_the_rest(&tally, expected);
    double seconds = tally.deliveries ? (double)(last_ns - first_ns) / 1e9 : 0;
    printf("{\"mode\":\"listen\",\"subscribers\":%u,\"events\":%lu,\"deliveries\":%lu,\"seconds\":%.6f,"
           "\"lost\":%lu,\"gaps\":%lu,\"disorder\":%lu,\"pending\":%lu,\"load_cpu_s\":%.6f}\n",
           subscribers, events, tally.deliveries, seconds, tally.lost, tally.gaps, tally.disorder, pending, cpu);
    fflush(stdout);
    /* The connections stay until the server's CPU time has been read. */
    await_line(now_ns() + 30000000000ull);
}
