/* JSON, as far as it is ordinary: strings of plain signs, short numbers, objects of these.
 *
 * What is read here msgspec reads to the same value; what it would refuse, or what takes more care
 * than this (deep values, long numbers, signs that NFC may change), is left: NULL or 0 is returned.
 */

#ifndef FLYWHEEL_JSON_H
#define FLYWHEEL_JSON_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "texts.h"

#define ENTRIES 16 /* of an object */

/* What JSON holds; WRITTEN is an object, as it was written anew. */
enum { NONE, STRING, ESCAPED, NUMERAL, WORD, NULL_VALUE, WRITTEN };

typedef struct {
    const uint8_t *at; /* first byte of the value; of a string behind its mark */
    int64_t size;
    double number;
    uint64_t hash; /* of a STRING that will be looked up */
    int is;
} Value;

/* ---- strings ---------------------------------------------------------------------------- */

/* Code points that NFC leaves as they are whatever stands beside them, and that are no white
 * space: a choice of those in use, not all; each is tested against unicodedata. */
static const uint32_t PLAIN[][2] = {
    {0xA1, 0x2FF},     {0x4E00, 0x9FFF},   {0x3041, 0x3096},   {0x30A1, 0x30FF},
    {0xAC00, 0xD7A3},  {0x400, 0x482},     {0x48A, 0x52F},     {0x200C, 0x200D},
    {0x2010, 0x2027},  {0x2030, 0x205E},   {0x370, 0x373},     {0x375, 0x377},
    {0x388, 0x3FF},    {0x531, 0x556},     {0x561, 0x587},     {0x5D0, 0x5EA},
    {0x620, 0x64A},    {0x660, 0x66F},     {0x671, 0x6D3},     {0x1F600, 0x1FAFF},
    {0x1F300, 0x1F5FF}, {0x20A0, 0x20C0},  {0x2190, 0x2328},   {0x2400, 0x2426},
    {0x2460, 0x2ADB},  {0x3001, 0x3029},   {0x3400, 0x4DBF},   {0xFF01, 0xFFBE},
    {0xFE0F, 0xFE0F},  {0x2100, 0x2125},   {0x2127, 0x2129},   {0x212C, 0x218B},
};

static int is_plain(uint32_t point) {
    for (unsigned i = 0; i < sizeof PLAIN / sizeof *PLAIN; i++)
        if (PLAIN[i][0] <= point && point <= PLAIN[i][1]) return 1;
    return 0;
}

/* The bytes of a sign beyond ASCII; 0 where it is none, or one that is left. */
static int sign_at(const uint8_t *at, const uint8_t *end) {
    int size = *at >= 0xF0 ? 4 : *at >= 0xE0 ? 3 : 2;
    uint32_t point = *at & (0xFF >> (size + 1));
    if (*at < 0xC2 || *at > 0xF4 || end - at < size) return 0;
    for (int i = 1; i < size; i++) {
        if ((at[i] & 0xC0) != 0x80) return 0;
        point = point << 6 | (at[i] & 0x3F);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* less is written shorter */
    return point >= least[size] && is_plain(point) ? size : 0;
}

static int hex_at(const uint8_t *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int sign = at[i], low = sign | 0x20;
        int digit = sign >= '0' && sign <= '9' ? sign - '0' : low >= 'a' && low <= 'f' ? low - 87 : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Read \uXXXX, or two of them that make one code point; the bytes read, 0 where it is left. */
static int escape_at(const uint8_t *at, const uint8_t *end, uint32_t *point) {
    if (end - at < 6) return 0;
    int first = hex_at(at + 2);
    if (first < 0) return 0;
    *point = (uint32_t)first;
    if (first < 0xD800 || first > 0xDFFF) return 6;
    if (first > 0xDBFF || end - at < 12 || at[6] != '\\' || at[7] != 'u') return 0;
    int second = hex_at(at + 8);
    if (second < 0xDC00 || second > 0xDFFF) return 0;
    *point = 0x10000 + ((uint32_t)(first - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
    return 12;
}

/* The high bit of each byte that is a quotation mark, a backslash, no ASCII or a control sign. */
static inline uint64_t special(uint64_t x) {
    const uint64_t one = 0x0101010101010101u, high = 0x80 * one;
    uint64_t quote = x ^ 0x22 * one, slash = x ^ 0x5C * one;
    uint64_t found = (quote - one) & ~quote;
    found |= (slash - one) & ~slash;
    found |= (x - 0x20 * one) & ~x;
    return (found | x) & high;
}

/* The first special byte from `at` on, or less than 16 bytes before `end`. */
static inline const uint8_t *next_special(const uint8_t *at, const uint8_t *end) {
#ifdef __SSE2__ /* every x86-64 has it */
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), least = _mm_set1_epi8(0x20);
    for (; end - at >= 16; at += 16) { /* as signed bytes, what is no ASCII is less than a space too */
        __m128i x = _mm_loadu_si128((const __m128i *)at);
        __m128i found = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash));
        int places = _mm_movemask_epi8(_mm_or_si128(found, _mm_cmplt_epi8(x, least)));
        if (places) return at + __builtin_ctz(places);
    }
#endif
    for (; end - at >= 8; at += 8) {
        uint64_t found = special(load8(at));
        if (found) return at + (__builtin_ctzll(found) >> 3);
    }
    return at;
}

/* The end of a string that begins at `at`, behind its mark; NULL where it is left. */
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end, int *is_escaped) {
    *is_escaped = 0;
    while (at < end) {
        at = next_special(at, end);
        if (at == end) return NULL;
        uint32_t point;
        int size = 1;
        if (*at == '"') return at;
        if (*at < 0x20) return NULL;
        if (*at >= 0x80) {
            size = sign_at(at, end);
        } else if (*at == '\\') {
            *is_escaped = 1;
            if (end - at < 2) return NULL;
            if (at[1] == 'u') {
                size = escape_at(at, end, &point);
                if (size && (point < 0x20 || (point >= 0x7F && !is_plain(point)))) return NULL;
            } else {
                size = strchr("\"\\/bfnrt", at[1]) && at[1] ? 2 : 0;
            }
        }
        if (!size) return NULL;
        at += size;
    }
    return NULL;
}

/* Read a number of at most 15 digits and without exponent, which is then exact (Clinger 1990). */
static const uint8_t *number_end(const uint8_t *at, const uint8_t *end, double *number) {
    static const double POWER[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    int is_negative = *at == '-', before = 0, behind = 0;
    int64_t digits = 0;
    at += is_negative;
    const uint8_t *start = at;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (++before > 15) return NULL;
        digits = 10 * digits + *at - '0';
    }
    if (!before || (before > 1 && *start == '0')) return NULL;
    if (at < end && *at == '.') {
        for (at++; at < end && *at >= '0' && *at <= '9'; at++) {
            if (before + ++behind > 15) return NULL;
            digits = 10 * digits + *at - '0';
        }
        if (!behind) return NULL;
    }
    if (is_negative && !digits) return NULL; /* a zero that has a sign */
    *number = (double)(is_negative ? -digits : digits) / POWER[behind];
    return at;
}

/* What a string means: UTF-8 with its escapes undone; good until `plain` is used again. */
static const uint8_t *plain_of(Bytes *plain, const Value *value, int64_t *size) {
    *size = value->size;
    if (value->is != ESCAPED) return value->at;
    if (!make_room(plain, value->size + 1)) return NULL;
    uint8_t *start = plain->at, *to = start;
    for (const uint8_t *at = value->at, *end = at + value->size; at < end;) {
        uint32_t point;
        const uint8_t *slash = memchr(at, '\\', end - at);
        int64_t fine = (slash ? slash : end) - at;
        memcpy(to, at, fine);
        to += fine;
        at += fine;
        if (at == end) break;
        if (at[1] != 'u') {
            static const char NAMES[] = "\"\\/bfnrt", SIGNS[] = "\"\\/\b\f\n\r\t";
            *to++ = (uint8_t)SIGNS[strchr(NAMES, at[1]) - NAMES];
            at += 2;
        } else {
            at += escape_at(at, end, &point);
            if (point < 0x80) {
                *to++ = (uint8_t)point;
                continue;
            }
            int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
            *to++ = (uint8_t)(0xFF << (7 - more) | point >> 6 * more);
            while (more--) *to++ = (uint8_t)(0x80 | (point >> 6 * more & 0x3F));
        }
    }
    *size = to - start;
    return start;
}

/* Append a text as JSON, as msgspec writes it. */
static int append_string(Bytes *json, const uint8_t *text, int64_t size) {
    if (!make_room(json, 2 * size + 2)) return 0;
    uint8_t *to = json->at + json->size;
    *to++ = '"';
    for (const uint8_t *at = text, *end = text + size; at < end;) {
        while (end - at >= 8) { /* signs that need no escape, eight at a time */
            uint64_t eight = load8(at), found = special(eight & 0x7F7F7F7F7F7F7F7Fu);
            int64_t fine = found ? __builtin_ctzll(found) >> 3 : 8;
            memcpy(to, &eight, 8);
            at += fine;
            to += fine;
            if (found) break; /* perhaps by a byte of a sign beyond ASCII */
        }
        if (at == end) break;
        if (*at == '"' || *at == '\\' || *at < 0x20) {
            *to++ = '\\';
            *to++ = *at < 0x20 ? (uint8_t)"btn?fr"[*at - '\b'] : *at;
        } else {
            *to++ = *at;
        }
        at++;
    }
    *to++ = '"';
    json->size = to - json->at;
    return 1;
}

/* ---- values ----------------------------------------------------------------------------- */

static const uint8_t *skip_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) at++;
    return at;
}

/* The end of a string, a number, a word or null. */
static const uint8_t *leaf_end(const uint8_t *at, const uint8_t *end, Value *value) {
    value->at = at;
    if (at == end) return NULL;
    if (*at == '"') {
        int is_escaped;
        value->at++;
        at = string_end(at + 1, end, &is_escaped);
        value->is = is_escaped ? ESCAPED : STRING;
        value->size = at ? at - value->at : 0;
        return at ? at + 1 : NULL;
    }
    value->is = *at == 'n' ? NULL_VALUE : WORD;
    if (end - at >= 4 && (!memcmp(at, "null", 4) || !memcmp(at, "true", 4))) value->size = 4;
    else if (end - at >= 5 && !memcmp(at, "false", 5)) value->size = 5;
    else {
        value->is = NUMERAL;
        const uint8_t *stop = number_end(at, end, &value->number);
        value->size = stop ? stop - at : 0;
    }
    return value->size ? at + value->size : NULL;
}

typedef struct {
    Value name, value;
} Entry;

static int order_of(const Value *one, const Value *other) { /* as memcmp; the shorter comes first */
    int64_t more = one->size - other->size;
    int order = memcmp(one->at, other->at, more < 0 ? one->size : other->size);
    return order ? order : (more > 0) - (more < 0);
}

/* The end of an object of leaves, which is written anew in the order of its names; NULL where it
 * is left: it is deeper, holds a null or a broken number, or tools, which are part of a prompt. */
static const uint8_t *object_end(
    Bytes *json, Bytes *plain, const uint8_t *at, const uint8_t *end, Value *value) {
    Entry entry[ENTRIES];
    int count = 0, done = 1;
    at = skip_space(at + 1, end);
    while (at < end && !(count == 0 && *at == '}')) {
        Entry new;
        int to = count;
        at = *at == '"' ? leaf_end(at, end, &new.name) : NULL;
        if (!at || count == ENTRIES || new.name.is != STRING) return NULL;
        if (new.name.size == 5 && !memcmp(new.name.at, "tools", 5)) return NULL;
        at = skip_space(at, end);
        if (at == end || *at != ':') return NULL;
        at = leaf_end(skip_space(at + 1, end), end, &new.value);
        if (!at || new.value.is == NULL_VALUE) return NULL;
        if (new.value.is == NUMERAL && memchr(new.value.at, '.', new.value.size)) return NULL;
        for (; to && order_of(&new.name, &entry[to - 1].name) < 0; to--) entry[to] = entry[to - 1];
        if (to && !order_of(&new.name, &entry[to - 1].name)) return NULL; /* a name twice */
        entry[to] = new;
        count++;
        at = skip_space(at, end);
        if (at < end && *at == '}') break;
        if (at == end || *at != ',') return NULL;
        at = skip_space(at + 1, end);
    }
    json->size = 0;
    for (int i = 0; done && i < count; i++) {
        const Value *name = &entry[i].name, *held = &entry[i].value;
        int64_t size;
        const uint8_t *text = plain_of(plain, held, &size);
        done = text && append_text(json, i ? "," : "{") && append_string(json, name->at, name->size);
        done = done && append_text(json, ":");
        done = done && (held->is < NUMERAL ? append_string(json, text, size) : append(json, held->at, held->size));
    }
    if (at == end || !done || !append_text(json, count ? "}" : "{}")) return NULL;
    *value = (Value){.at = json->at, .size = json->size, .is = WRITTEN};
    return at + 1;
}

#endif
