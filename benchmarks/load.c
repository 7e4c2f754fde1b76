/* The load generator: WebSocket clients on one thread and one epoll. Prints `ready` when its connections are
 * up, waits for a line on the standard input, runs, and prints one line of JSON. */
#include "load_client.h"

#define DEFAULT_LIMIT_S 60
/* What opening and closing thousands of connections may take on top of a run before SIGALRM ends it. */
#define MARGIN_S 360
/* Makes the frame that a subscriber gets about 230 bytes long. */
#define DEFAULT_PAYLOAD 112
/* What is in flight, 1,024 events, must fit into the 4 MiB that a server keeps for one slow connection. */
#define MOST_PAYLOAD 3500

void run_saturate(uint16_t port, unsigned subscribers, uint64_t events, size_t payload, unsigned limit_s);
void run_paced(uint16_t port, unsigned subscribers, unsigned rate, unsigned seconds, size_t payload);
void run_idle(uint16_t port, unsigned count, unsigned seconds);
void run_listen(uint16_t port, unsigned subscribers, uint64_t events, unsigned limit_s);

static void usage(void) {
    fputs("usage: load saturate PORT SUBSCRIBERS EVENTS [PAYLOAD [LIMIT_SECONDS]]\n"
          "       load paced    PORT SUBSCRIBERS RATE SECONDS [PAYLOAD]\n"
          "       load idle     PORT CONNECTIONS SECONDS\n"
          "       load listen   PORT SUBSCRIBERS EVENTS SECONDS\n"
          "\n"
          "The server is ws://127.0.0.1:PORT/ws. PAYLOAD is the length in bytes of an event's `data` (112).\n"
          "After `ready`, all but `idle` wait for a line before they start, and for another one\n"
          "before they close; `listen` leaves it to somebody else to publish; `idle` holds its connections until a line comes or SECONDS are over. The end\n"
          "of the input counts as every line, so `load … </dev/null` just runs.\n",
          stderr);
    exit(2);
}

static unsigned long number(const char *text, unsigned long least, unsigned long most) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text || value < least || value > most) {
        die("%s is not a number from %lu to %lu", text, least, most);
    }
    return value;
}

int main(int count, char **words) {
    if (count < 5) usage();
    uint16_t port = (uint16_t)number(words[2], 1, 65535);
    unsigned connections = (unsigned)number(words[3], 1, 100000);
    size_t payload = DEFAULT_PAYLOAD;
    if (strcmp(words[1], "saturate") == 0 && count <= 7) {
        unsigned limit = DEFAULT_LIMIT_S;
        if (count > 5) payload = number(words[5], 1, MOST_PAYLOAD);
        if (count > 6) limit = (unsigned)number(words[6], 1, 3600);
        begin_clients(limit + MARGIN_S);
        run_saturate(port, connections, number(words[4], 1, 10000000000), payload, limit);
    } else if (strcmp(words[1], "paced") == 0 && (count == 6 || count == 7)) {
        unsigned seconds = (unsigned)number(words[5], 1, 3600);
        if (count > 6) payload = number(words[6], 1, 1024);
        begin_clients(seconds + MARGIN_S);
        run_paced(port, connections, (unsigned)number(words[4], 1, 1000000), seconds, payload);
    } else if (strcmp(words[1], "idle") == 0 && count == 5) {
        unsigned seconds = (unsigned)number(words[4], 0, 3600);
        begin_clients(seconds + MARGIN_S);
        run_idle(port, connections, seconds);
    } else if (strcmp(words[1], "listen") == 0 && count == 6) {
        unsigned seconds = (unsigned)number(words[5], 1, 3600);
        begin_clients(seconds + MARGIN_S);
        run_listen(port, connections, number(words[4], 1, 10000000000), seconds);
    } else {
        usage();
    }
    return 0;
}
