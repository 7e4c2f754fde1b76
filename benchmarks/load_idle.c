/* Many connections that are only held: how long each takes to open, and what it costs to hold them. */
#include "load_client.h"

/* So many are opened one at a time, each when the one before is up; the others AT_ONCE at a time. */
#define ONE_BY_ONE 500
#define AT_ONCE 64
#define BULK_LIMIT_S 240

static unsigned up, gone;
static uint32_t *times_us;

static void on_text(struct client *client, const char *text, size_t length) {
    (void)text, (void)length;
    if (client->phase != CONNECTED) return;
    times_us[up++] = (uint32_t)((now_ns() - client->started_ns) / 1000);
    client->phase = SUBSCRIBED; /* nothing more is awaited */
}

static void on_gone(struct client *client) {
    (void)client;
    gone++;
}

static void open_in_bulk(struct client *clients, unsigned from, unsigned count, uint16_t port) {
    uint64_t deadline = now_ns() + BULK_LIMIT_S * 1000000000ull;
    unsigned opened = from;
    while (up + gone < count) {
        while (opened < count && opened - up - gone < AT_ONCE) {
            open_client(&clients[opened], port, opened);
            opened++;
        }
        if (now_ns() > deadline) die("only %u of %u connections were up after %d s", up, count, BULK_LIMIT_S);
        poll_once(100);
    }
}

static void print_times(const char *name, uint32_t *times, size_t count) {
    double p50 = percentile(times, count, 0.5) / 1e3;
    double p99 = percentile(times, count, 0.99) / 1e3;
    double most = percentile(times, count, 1.0) / 1e3;
    printf(",\"%s_p50_ms\":%.3f,\"%s_p99_ms\":%.3f,\"%s_max_ms\":%.3f", name, p50, name, p99, name, most);
}

void run_idle(uint16_t port, unsigned count, unsigned seconds) {
    struct client *clients = allocate(count, sizeof *clients);
    unsigned single = count < ONE_BY_ONE ? count : ONE_BY_ONE;
    times_us = allocate(count, sizeof *times_us);
    for (unsigned i = 0; i < count; i++) clients[i].text = on_text, clients[i].gone = on_gone;

    for (unsigned i = 0; i < single; i++) open_client_now(&clients[i], port, i);
    unsigned up_single = up;
    uint64_t start = now_ns();
    open_in_bulk(clients, single, count, port);
    double bulk_seconds = (double)(now_ns() - start) / 1e9;
    unsigned up_bulk = up - up_single;

    say("ready");
    await_line(now_ns() + seconds * 1000000000ull);
    printf("{\"mode\":\"idle\",\"connected\":%u,\"dropped\":%u", up, gone);
    print_times("single", times_us, up_single);
    print_times("bulk", times_us + up_single, up_bulk);
    double bulk_per_s = up_bulk ? up_bulk / bulk_seconds : 0;
    printf(",\"bulk_per_s\":%.1f,\"load_cpu_s\":%.6f}\n", bulk_per_s, own_cpu_seconds());
    fflush(stdout);
}
