/* SHA-256 (FIPS 180-4) and BLAKE2b of 16 bytes without key (RFC 7693), in hex, as hashlib's. */

#ifndef FLYWHEEL_HASHES_H
#define FLYWHEEL_HASHES_H

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define HAS_X86 1
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "hashes are read as little-endian numbers; this machine runs the Python version"
#endif

static void write_hex(const uint8_t *digest, int size, uint8_t *hex) {
    for (int i = 0; i < size; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
}

/* ---- SHA-256 ------------------------------------------------------------------------------ */

static const uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha_blocks(uint32_t *state, const uint8_t *data, int64_t blocks) {
    for (; blocks > 0; blocks--, data += 64) {
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; i++) {
            memcpy(w + i, data + 4 * i, 4);
            w[i] = __builtin_bswap32(w[i]);
        }
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(s, state, sizeof s);
        for (int i = 0; i < 64; i++) {
            uint32_t e = s[4], a = s[0];
            uint32_t one = s[7] + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + SHA_K[i] + w[i];
            uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += one;
            s[0] = one + two;
        }
        for (int i = 0; i < 8; i++) state[i] += s[i];
    }
}

#ifdef HAS_X86
/* The same by the instructions of the processor: four rounds at a time, the state as ABEF, CDGH. */
__attribute__((target("sha,sse4.1,ssse3"))) static void sha_blocks_ni(
    uint32_t *state, const uint8_t *data, int64_t blocks) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
    for (; blocks > 0; blocks--, data += 64) {
        __m128i w[4], was_abef = abef, was_cdgh = cdgh;
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), order);
        for (int i = 0; i < 16; i++) {
            __m128i now = w[i & 3];
            __m128i added = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(SHA_K + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, added);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(added, 0x0E));
            if (i < 12) { /* the words of four blocks further */
                __m128i next = _mm_sha256msg1_epu32(now, w[(i + 1) & 3]);
                next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
                w[i & 3] = _mm_sha256msg2_epu32(next, w[(i + 3) & 3]);
            }
        }
        abef = _mm_add_epi32(abef, was_abef);
        cdgh = _mm_add_epi32(cdgh, was_cdgh);
    }
    low = _mm_shuffle_epi32(abef, 0x1B);
    high = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(low, high, 0xF0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

static int has_sha_ni(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 29 & 1)) return 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 19 & 1) && (c >> 9 & 1);
}
#endif

/* `is_portable` asks for the version without special instructions, for a test of it. */
static void sha256_hex(const uint8_t *data, int64_t size, int is_portable, uint8_t *hex) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    void (*add)(uint32_t *, const uint8_t *, int64_t) = sha_blocks;
#ifdef HAS_X86
    static int is_able = -1;
    if (is_able < 0) is_able = has_sha_ni();
    if (is_able && !is_portable) add = sha_blocks_ni;
#endif
    (void)is_portable;
    uint8_t last[128] = {0};
    int64_t rest = size % 64, blocks = rest < 56 ? 1 : 2;
    uint64_t bits = __builtin_bswap64((uint64_t)size * 8);
    add(state, data, size / 64);
    memcpy(last, data + size - rest, rest);
    last[rest] = 0x80;
    memcpy(last + 64 * blocks - 8, &bits, 8);
    add(state, last, blocks);
    for (int i = 0; i < 8; i++) state[i] = __builtin_bswap32(state[i]);
    write_hex((const uint8_t *)state, 32, hex);
}

/* ---- BLAKE2b ------------------------------------------------------------------------------ */

static const uint64_t BLAKE_IV[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                     0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
static const uint8_t BLAKE_ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static inline uint64_t turned_8(uint64_t x, int by) { return x >> by | x << (64 - by); }

#define MIX(a, b, c, d, x, y)                                            \
    do {                                                                 \
        a += b + x, d = turned_8(d ^ a, 32), c += d, b = turned_8(b ^ c, 24); \
        a += b + y, d = turned_8(d ^ a, 16), c += d, b = turned_8(b ^ c, 63); \
    } while (0)

static void blake_block(uint64_t *state, const uint8_t *data, uint64_t told, int is_last) {
    uint64_t m[16], v[16];
    memcpy(m, data, sizeof m);
    memcpy(v, state, 64);
    memcpy(v + 8, BLAKE_IV, 64);
    v[12] ^= told;
    if (is_last) v[14] = ~v[14];
#pragma GCC unroll 12
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = BLAKE_ORDER[round % 10];
        MIX(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        MIX(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        MIX(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        MIX(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        MIX(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        MIX(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        MIX(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        MIX(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
}

/* The next block of each of four messages: of lane i the state is state[0..7][i]. */
static void blake_four(uint64_t state[8][4], const uint8_t **data, const uint64_t *told, const uint64_t *is_last) {
    for (int lane = 0; lane < 4; lane++) {
        uint64_t one[8];
        if (!told[lane] && !is_last[lane]) continue; /* nothing is left for it */
        for (int i = 0; i < 8; i++) one[i] = state[i][lane];
        blake_block(one, data[lane], told[lane], is_last[lane] != 0);
        for (int i = 0; i < 8; i++) state[i][lane] = one[i];
    }
}

#ifdef HAS_X86
#define MIX_FOUR(a, b, c, d, x, y)                                                                     \
    do {                                                                                               \
        a = _mm256_add_epi64(_mm256_add_epi64(a, b), x), d = _mm256_xor_si256(d, a);                   \
        d = _mm256_shuffle_epi32(d, 0xB1), c = _mm256_add_epi64(c, d), b = _mm256_xor_si256(b, c);     \
        b = _mm256_shuffle_epi8(b, by_24), a = _mm256_add_epi64(_mm256_add_epi64(a, b), y);            \
        d = _mm256_shuffle_epi8(_mm256_xor_si256(d, a), by_16), c = _mm256_add_epi64(c, d);            \
        b = _mm256_xor_si256(b, c), b = _mm256_xor_si256(_mm256_srli_epi64(b, 63), _mm256_add_epi64(b, b)); \
    } while (0)

/* The same, all four at once. */
__attribute__((target("avx2"))) static void blake_four_avx2(
    uint64_t state[8][4], const uint8_t **data, const uint64_t *told, const uint64_t *is_last) {
    const __m256i by_24 = _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10,
                                           3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10);
    const __m256i by_16 = _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9,
                                           2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9);
    __m256i m[16], v[16];
    for (int i = 0; i < 4; i++) { /* word by word across the lanes */
        __m256i row[4], pair[4];
        for (int lane = 0; lane < 4; lane++) row[lane] = _mm256_loadu_si256((const __m256i *)(data[lane] + 32 * i));
        pair[0] = _mm256_unpacklo_epi64(row[0], row[1]), pair[1] = _mm256_unpackhi_epi64(row[0], row[1]);
        pair[2] = _mm256_unpacklo_epi64(row[2], row[3]), pair[3] = _mm256_unpackhi_epi64(row[2], row[3]);
        m[4 * i] = _mm256_permute2x128_si256(pair[0], pair[2], 0x20);
        m[4 * i + 1] = _mm256_permute2x128_si256(pair[1], pair[3], 0x20);
        m[4 * i + 2] = _mm256_permute2x128_si256(pair[0], pair[2], 0x31);
        m[4 * i + 3] = _mm256_permute2x128_si256(pair[1], pair[3], 0x31);
    }
    for (int i = 0; i < 8; i++) {
        v[i] = _mm256_loadu_si256((const __m256i *)state[i]);
        v[i + 8] = _mm256_set1_epi64x((int64_t)BLAKE_IV[i]);
    }
    v[12] = _mm256_xor_si256(v[12], _mm256_loadu_si256((const __m256i *)told));
    v[14] = _mm256_xor_si256(v[14], _mm256_loadu_si256((const __m256i *)is_last));
#pragma GCC unroll 12
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = BLAKE_ORDER[round % 10];
        MIX_FOUR(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        MIX_FOUR(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        MIX_FOUR(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        MIX_FOUR(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        MIX_FOUR(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        MIX_FOUR(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        MIX_FOUR(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        MIX_FOUR(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++) {
        __m256i was = _mm256_loadu_si256((const __m256i *)state[i]);
        _mm256_storeu_si256((__m256i *)state[i], _mm256_xor_si256(was, _mm256_xor_si256(v[i], v[i + 8])));
    }
}
#endif

/* Hashes of messages that lie one behind the other and end at `end`: four at a time, and whichever
 * of the four is done makes room for the next. */
static void blake2b_hex(const uint8_t *data, const int64_t *end, int64_t count, int is_portable, uint8_t *hex) {
    void (*add)(uint64_t(*)[4], const uint8_t **, const uint64_t *, const uint64_t *) = blake_four;
#ifdef HAS_X86
    if (!is_portable && __builtin_cpu_supports("avx2")) add = blake_four_avx2;
#endif
    (void)is_portable;
    uint64_t state[8][4] = {{0}};
    uint8_t rest[4][128];
    int64_t message[4] = {-1, -1, -1, -1}, at[4] = {0}, next = 0;
    memset(rest, 0, sizeof rest);
    for (;;) {
        const uint8_t *block[4];
        uint64_t told[4] = {0}, is_last[4] = {0};
        int busy = 0;
        for (int lane = 0; lane < 4; lane++) {
            block[lane] = rest[lane];
            if (message[lane] < 0) {
                if (next == count) continue;
                message[lane] = next++;
                at[lane] = message[lane] ? end[message[lane] - 1] : 0;
                for (int i = 0; i < 8; i++) state[i][lane] = BLAKE_IV[i] ^ (i ? 0 : 0x01010000 ^ 16);
            }
            int64_t start = message[lane] ? end[message[lane] - 1] : 0, size = end[message[lane]] - at[lane];
            busy = 1;
            if (size >= 128) {
                block[lane] = data + at[lane];
            } else {
                if (size) memcpy(rest[lane], data + at[lane], size);
                memset(rest[lane] + size, 0, 128 - size);
            }
            if (size <= 128) is_last[lane] = UINT64_MAX;
            at[lane] += size < 128 ? size : 128;
            told[lane] = (uint64_t)(at[lane] - start);
        }
        if (!busy) return;
        add(state, block, told, is_last);
        for (int lane = 0; lane < 4; lane++) {
            if (!is_last[lane]) continue;
            uint64_t digest[2] = {state[0][lane], state[1][lane]};
            write_hex((const uint8_t *)digest, 16, hex + 32 * message[lane]);
            message[lane] = -1;
        }
    }
}

#endif
