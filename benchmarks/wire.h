/* What the load generator and the baseline server share: the clock, RFC 6455 frame heads, masking, and the
 * bytes of a frame that a read has cut in two. Pure C11 and POSIX, for Linux.
 *
 * Include this file first: it asks the C library for memmem and other extensions. */
#ifndef BENCHMARKS_WIRE_H
#define BENCHMARKS_WIRE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum opcode { OP_TEXT = 0x1, OP_BINARY = 0x2, OP_CLOSE = 0x8, OP_PING = 0x9, OP_PONG = 0xA };

/* Longest head of a frame: 2 bytes, 8 of length, 4 of mask. */
#define FRAME_HEAD_MAX 14

/* The size of the one buffer that every connection is read into. The frames stay in the cache that way. */
#define INBOX_SIZE (256 * 1024)

static inline void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Thousands of sockets need more than the usual soft limit of 1,024 open files. */
static inline void raise_open_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static inline void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("no memory for %zu times %zu bytes; ask for fewer connections or events", count, size);
    return memory;
}

struct frame {
    uint8_t opcode;
    bool final;
    bool masked;
    uint8_t mask[4];
    size_t head;   /* bytes before the payload */
    size_t length; /* bytes of payload */
};

/* Reads a frame's head. False while it has not arrived whole. */
static inline bool read_frame_head(const uint8_t *at, size_t have, struct frame *frame) {
    if (have < 2) return false;
    frame->opcode = at[0] & 0x0F;
    frame->final = (at[0] & 0x80) != 0;
    frame->masked = (at[1] & 0x80) != 0;
    size_t length = at[1] & 0x7F;
    size_t head = 2;
    if (length >= 126) {
        size_t width = length == 126 ? 2 : 8;
        if (have < head + width) return false;
        length = 0;
        for (size_t i = 0; i < width; i++) length = length << 8 | at[head + i];
        head += width;
    }
    if (frame->masked) {
        if (have < head + 4) return false;
        memcpy(frame->mask, at + head, 4);
        head += 4;
    }
    frame->head = head;
    frame->length = length;
    return true;
}

/* Writes the head of an unfragmented frame, without a mask where `mask` is NULL. Returns its length. */
static inline size_t write_frame_head(uint8_t *to, enum opcode opcode, size_t length, const uint8_t *mask) {
    uint8_t masked = mask ? 0x80 : 0;
    size_t head = 2;
    to[0] = 0x80 | (uint8_t)opcode;
    if (length < 126) {
        to[1] = masked | (uint8_t)length;
    } else {
        size_t width = length < 65536 ? 2 : 8;
        to[1] = masked | (width == 2 ? 126 : 127);
        for (size_t i = 0; i < width; i++) to[head + i] = (uint8_t)((uint64_t)length >> 8 * (width - 1 - i));
        head += width;
    }
    if (mask) {
        memcpy(to + head, mask, 4);
        head += 4;
    }
    return head;
}

/* Masking and unmasking are the same. `to` may be `from`. Eight bytes at a time, through memcpy because
 * neither side is aligned. */
static inline void apply_mask(uint8_t *to, const uint8_t *from, size_t length, const uint8_t mask[4]) {
    uint8_t twice[8];
    memcpy(twice, mask, 4);
    memcpy(twice + 4, mask, 4);
    uint64_t wide;
    memcpy(&wide, twice, 8);
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < length; i++) to[i] = from[i] ^ mask[i & 3];
}

/* The beginning of a frame (or of the HTTP head) whose end the last read did not bring. */
struct rest {
    uint8_t *bytes;
    size_t length;
    size_t room;
};

/* Puts the rest at the front of the inbox and reads behind it. Returns the bytes now in the inbox; 0 at the
 * end of the stream, -1 with errno as read(2) does. */
static inline ssize_t read_behind_rest(int fd, struct rest *rest, uint8_t *inbox) {
    if (rest->length == INBOX_SIZE) die("a frame is larger than the %d bytes kept for one", INBOX_SIZE);
    if (rest->length) memcpy(inbox, rest->bytes, rest->length);
    ssize_t count = read(fd, inbox + rest->length, INBOX_SIZE - rest->length);
    if (count <= 0) return count;
    count += (ssize_t)rest->length;
    rest->length = 0;
    return count;
}

static inline void keep_rest(struct rest *rest, const uint8_t *from, size_t length) {
    if (length > rest->room) {
        free(rest->bytes);
        rest->room = length < 512 ? 512 : length;
        rest->bytes = allocate(rest->room, 1);
    }
    if (length) memcpy(rest->bytes, from, length);
    rest->length = length;
}

static inline bool starts_with(const char *text, size_t length, const char *prefix) {
    size_t wanted = strlen(prefix);
    return length >= wanted && memcmp(text, prefix, wanted) == 0;
}

#endif
