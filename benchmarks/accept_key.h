/* The answer to a WebSocket handshake: base64(SHA-1(key + the GUID of RFC 6455)). SHA-1 is FIPS 180-4's, for
 * messages of one or two blocks, which is all a handshake has. */
#ifndef BENCHMARKS_ACCEPT_KEY_H
#define BENCHMARKS_ACCEPT_KEY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define KEY_LENGTH 24    /* 16 random bytes in base64 */
#define ACCEPT_LENGTH 28 /* 20 bytes of SHA-1 in base64 */

static inline uint32_t rotate_left(uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

static inline void sha1_block(uint32_t state[5], const uint8_t block[64]) {
    uint32_t words[80];
    for (int i = 0; i < 16; i++) {
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                   (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        words[i] = rotate_left(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
        uint32_t mix, constant;
        if (i < 20) {
            mix = (b & c) | (~b & d), constant = 0x5A827999;
        } else if (i < 40) {
            mix = b ^ c ^ d, constant = 0x6ED9EBA1;
        } else if (i < 60) {
            mix = (b & c) | (b & d) | (c & d), constant = 0x8F1BBCDC;
        } else {
            mix = b ^ c ^ d, constant = 0xCA62C1D6;
        }
        uint32_t next = rotate_left(a, 5) + mix + e + constant + words[i];
        e = d, d = c, c = rotate_left(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* `length` is at most 119, so that the padded message is at most two blocks. */
static inline void sha1_short(const uint8_t *message, size_t length, uint8_t digest[20]) {
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t padded[128] = {0};
    size_t blocks = length < 56 ? 1 : 2;
    memcpy(padded, message, length);
    padded[length] = 0x80;
    for (size_t i = 0; i < 8; i++) padded[64 * blocks - 1 - i] = (uint8_t)((uint64_t)length * 8 >> 8 * i);
    for (size_t i = 0; i < blocks; i++) sha1_block(state, padded + 64 * i);
    for (size_t i = 0; i < 20; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* 20 bytes make 28 characters, the last of them padding. */
static inline void base64_of_digest(const uint8_t digest[20], char text[ACCEPT_LENGTH + 1]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t padded[21] = {0};
    memcpy(padded, digest, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)padded[3 * i] << 16 | (uint32_t)padded[3 * i + 1] << 8 | padded[3 * i + 2];
        for (int j = 0; j < 4; j++) text[4 * i + j] = letters[three >> (18 - 6 * j) & 63];
    }
    text[ACCEPT_LENGTH - 1] = '=';
    text[ACCEPT_LENGTH] = '\0';
}

static inline void accept_key(const char key[KEY_LENGTH], char accept[ACCEPT_LENGTH + 1]) {
    uint8_t joined[KEY_LENGTH + sizeof WEBSOCKET_GUID];
    uint8_t digest[20];
    memcpy(joined, key, KEY_LENGTH);
    memcpy(joined + KEY_LENGTH, WEBSOCKET_GUID, sizeof WEBSOCKET_GUID - 1);
    sha1_short(joined, KEY_LENGTH + sizeof WEBSOCKET_GUID - 1, digest);
    base64_of_digest(digest, accept);
}

#endif
