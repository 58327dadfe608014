/* Bytes that grow, and texts that are each kept once. */

#ifndef FLYWHEEL_TEXTS_H
#define FLYWHEEL_TEXTS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *at;
    int64_t size, room;
} Bytes;

static int make_room(Bytes *bytes, int64_t more) {
    if (bytes->size + more <= bytes->room) return 1;
    int64_t room = (bytes->size + more) * 3 / 2 + 64;
    uint8_t *moved = realloc(bytes->at, room);
    if (!moved) return 0;
    bytes->at = moved;
    bytes->room = room;
    return 1;
}

static int append(Bytes *bytes, const void *from, int64_t size) {
    if (!make_room(bytes, size)) return 0;
    if (size) memcpy(bytes->at + bytes->size, from, size);
    bytes->size += size;
    return 1;
}

static int append_text(Bytes *bytes, const char *text) { return append(bytes, text, strlen(text)); }
static int append_end(Bytes *ends, int64_t end) {
    int32_t short_end = (int32_t)end;
    return append(ends, &short_end, 4);
}

/* ---- texts, each kept once ---------------------------------------------------------------- */

typedef struct {
    Bytes text, end; /* the texts; 0 and where each ends (int32) */
    uint64_t *slot;  /* high half of the hash, and the place of a text and one more; or 0 */
    int64_t mask, count;
} Texts;

static inline uint64_t load8(const uint8_t *from) {
    uint64_t value;
    memcpy(&value, from, 8);
    return value;
}

static uint64_t hash_of(const uint8_t *text, int64_t size) {
    uint64_t hash = (uint64_t)size * 0x9E3779B97F4A7C15u, last = 0;
    if (size >= 64) { /* four at a time, which do not wait for each other */
        uint64_t four[4] = {hash, ~hash, hash ^ 0x5555555555555555u, hash + 0x3333333333333333u};
        for (; size >= 32; text += 32, size -= 32)
            for (int i = 0; i < 4; i++) {
                four[i] = (four[i] ^ load8(text + 8 * i)) * 0xD6E8FEB86659FD93u;
                four[i] ^= four[i] >> 32;
            }
        for (int i = 0; i < 4; i++) hash = (hash ^ four[i]) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    for (; size >= 8; text += 8, size -= 8) {
        hash = (hash ^ load8(text)) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    memcpy(&last, text, size);
    hash = (hash ^ last) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
}

static int more_slots(Texts *texts) {
    int64_t mask = texts->slot ? 2 * texts->mask + 1 : 63;
    uint64_t *slot = calloc(mask + 1, sizeof *slot);
    if (!slot) return 0;
    for (int64_t i = 0; texts->slot && i <= texts->mask; i++) {
        if (!texts->slot[i]) continue;
        uint64_t at = texts->slot[i] >> 32 & mask;
        while (slot[at]) at = (at + 1) & mask;
        slot[at] = texts->slot[i];
    }
    free(texts->slot);
    texts->slot = slot;
    texts->mask = mask;
    return 1;
}

static const uint8_t *text_at(const Texts *texts, int64_t i, int64_t *size) {
    const int32_t *end = (const int32_t *)texts->end.at;
    *size = end[i + 1] - end[i];
    return texts->text.at + end[i];
}

/* Have the memory ready in which a text will be looked for; its hash. */
static inline uint64_t expect(const Texts *texts, const uint8_t *text, int64_t size) {
    uint64_t hash = hash_of(text, size);
    if (texts->slot) __builtin_prefetch(&texts->slot[hash >> 32 & texts->mask]);
    return hash;
}

/* The place of a text whose hash is known; it is added where it is new; -1 where there is no memory. */
static int64_t place_by(Texts *texts, uint64_t hash, const uint8_t *text, int64_t size) {
    if (2 * texts->count >= texts->mask && !more_slots(texts)) return -1;
    if (!texts->count && !texts->end.size && !append_end(&texts->end, 0)) return -1;
    uint64_t at = (hash >>= 32) & texts->mask;
    for (; texts->slot[at]; at = (at + 1) & texts->mask) {
        int64_t i = (int64_t)(texts->slot[at] & UINT32_MAX) - 1, length;
        if (texts->slot[at] >> 32 != hash) continue;
        const uint8_t *known = text_at(texts, i, &length);
        if (length == size && !memcmp(known, text, size)) return i;
    }
    if (!append(&texts->text, text, size) || !append_end(&texts->end, texts->text.size)) return -1;
    texts->slot[at] = hash << 32 | (uint64_t)++texts->count;
    return texts->count - 1;
}

static int64_t place_of(Texts *texts, const uint8_t *text, int64_t size) {
    return place_by(texts, hash_of(text, size), text, size);
}

static void clear_texts(Texts *texts) {
    texts->text.size = texts->end.size = texts->count = 0;
    if (texts->slot) memset(texts->slot, 0, (texts->mask + 1) * sizeof *texts->slot);
}

static void free_texts(Texts *texts) {
    free(texts->text.at);
    free(texts->end.at);
    free(texts->slot);
}

#endif
