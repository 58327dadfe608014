/* The inner loops of deduplication: words, shingles, the prefix join, the scan for runs.
 *
 * Plain C without Python.h: setuptools compiles it, `kernel.py` loads it with ctypes, which lets
 * go of the interpreter lock for the time of a call. Whatever is computed here is computed by
 * numpy as well (`shingles.py`, `join.py`, `overlap.py`), to the same last bit; change both.
 * Nothing here keeps state between calls. Functions that need memory answer -1 where there is none.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are hashed as little-endian numbers; this machine runs the numpy version"
#endif

#define KERNEL_VERSION 3 /* of what the functions compute and take; `kernel.py` asks for it */
#define API __attribute__((visibility("default")))
#define SLACK 1e-9      /* of a float that should be whole: ceil(.8 * 10) must be 8 */
#define PAD 64          /* bytes that may be read, not used, beyond a text */
#define AHEAD 24        /* memory accesses under way at once */
#define ALONE UINT32_MAX
#define SIGNATURE 4     /* 256 bits a set: in texts of 25 shingles they rule out 99 pairs of 100 */

static const uint64_t LENGTH = 0x9E3779B97F4A7C15u, CHUNK = 0xD6E8FEB86659FD93u;
static const uint64_t FIRST = 0xA0761D6478BD642Fu, SECOND = 0xE7037ED1A0B428DBu;
static const uint64_t THIRD = 0x8EBC6AF09C88C6E3u, LAST = 0xBF58476D1CE4E5B9u;

API int64_t kernel_version(void) { return KERNEL_VERSION; }
API void release(void *memory) { free(memory); }

/* ---- words -------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *lower; /* the text in lower case, and PAD spaces */
    uint64_t *word; /* hashes of its words */
    int64_t bytes;
} Scratch;

static int scratch_fits(Scratch *scratch, int64_t bytes) {
    if (bytes <= scratch->bytes) return 1;
    free(scratch->lower);
    free(scratch->word);
    scratch->bytes = bytes + bytes / 2;
    scratch->lower = malloc(scratch->bytes + PAD);
    scratch->word = malloc((scratch->bytes / 2 + 4) * sizeof(uint64_t));
    if (scratch->lower && scratch->word) return 1;
    scratch->bytes = -1;
    return 0;
}

static void scratch_free(Scratch *scratch) {
    free(scratch->lower);
    free(scratch->word);
}

static inline uint64_t load8(const uint8_t *from) {
    uint64_t value;
    memcpy(&value, from, 8);
    return value;
}

/* The high bit of each byte that is white space to str.split(): 9 to 13, 28 to 32. */
static inline uint64_t spaces_of(uint64_t x) {
    const uint64_t one = 0x0101010101010101u, high = 0x80 * one;
    uint64_t low = x & ~high; /* sums of two seven-bit numbers never reach the next byte */
    uint64_t from_9 = low + (128 - 9) * one, from_14 = low + (128 - 14) * one;
    uint64_t from_28 = low + (128 - 28) * one, from_33 = low + (128 - 33) * one;
    return ((from_9 & ~from_14) | (from_28 & ~from_33)) & ~x & high;
}

static inline uint64_t space_bits(const uint8_t *block) { /* of 64 bytes, bit i for byte i */
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t spaces = spaces_of(load8(block + 8 * i)) >> 7;
        bits |= ((spaces * 0x0102040810204080u) >> 56) << (8 * i);
    }
    return bits;
}

static inline uint64_t hash_word(const uint8_t *word, int64_t length) {
    static const uint64_t mask[9] = {0, 0xff, 0xffff, 0xffffff, 0xffffffff, 0xffffffffff,
                                     0xffffffffffff, 0xffffffffffffff, 0xffffffffffffffff};
    uint64_t hash = (uint64_t)length * LENGTH;
    while (length > 8) {
        hash = (hash ^ load8(word)) * CHUNK;
        hash ^= hash >> 32;
        word += 8;
        length -= 8;
    }
    hash = (hash ^ (load8(word) & mask[length])) * CHUNK;
    return hash ^ (hash >> 32);
}

/* Hash the words of a text into scratch; their number, or -1 without memory. */
static int64_t words_of(const uint8_t *text, int64_t bytes, Scratch *scratch) {
    if (!scratch_fits(scratch, bytes)) return -1;
    uint8_t *lower = scratch->lower;
    for (int64_t i = 0; i < bytes; i++) {
        uint8_t c = text[i];
        lower[i] = c + (((uint8_t)(c - 'A') < 26) << 5);
    }
    memset(lower + bytes, ' ', PAD);
    uint64_t was_space = 1;
    int64_t count = 0, begin = 0;
    for (int64_t at = 0; at <= bytes; at += 64) { /* `<=`: the end of a text ends its last word */
        uint64_t spaces = space_bits(lower + at);
        uint64_t edges = spaces ^ ((spaces << 1) | was_space);
        was_space = spaces >> 63;
        while (edges) {
            int64_t place = at + __builtin_ctzll(edges);
            if ((spaces >> (place - at)) & 1)
                scratch->word[count++] = hash_word(lower + begin, place - begin);
            else
                begin = place;
            edges &= edges - 1;
        }
    }
    return count;
}

static inline int has_bit(const uint8_t *table, uint32_t point) {
    return table[point >> 3] >> (point & 7) & 1;
}

static inline int more_bytes(uint8_t first) { /* of a code point that begins so */
    return first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
}

static inline uint32_t point_at(const uint8_t *s, int more) { /* `more` is not 0 */
    uint32_t point = *s & (0x3f >> more);
    for (int i = 1; i <= more; i++) point = point << 6 | (s[i] & 0x3f);
    return point;
}

/* Whether each text can be lower-cased and split byte by byte: 0 no, 1 yes, 2 once its signs are
 * parted. `plain` has a bit for each code point below 131072 that is NFC, lower case, joined to
 * nothing and no white space; `sign` for each that is a word by itself. */
API void find_plain(const uint8_t *const *text, const int64_t *bytes, int64_t texts,
                    const uint8_t *plain, const uint8_t *sign, uint8_t *is_plain) {
    for (int64_t d = 0; d < texts; d++) {
        const uint8_t *s = text[d], *end = s + bytes[d];
        is_plain[d] = 1;
        while (s < end) {
            while (end - s >= 8 && !(load8(s) & 0x8080808080808080u)) s += 8;
            while (s < end && *s < 0x80) s++;
            if (s >= end || *s < 0x80) continue;
            int more = more_bytes(*s);
            if (end - s <= more) { is_plain[d] = 0; break; }
            uint32_t point = point_at(s, more);
            if (point >> 17 || !has_bit(plain, point)) { is_plain[d] = 0; break; }
            if (has_bit(sign, point)) is_plain[d] = 2;
            s += more + 1;
        }
    }
}

/* Copy texts with a space before and after each sign. `bytes` becomes how many there are of each:
 * for a sign, which has three or more, two more. */
API void part_signs(const uint8_t *const *text, int64_t *bytes, int64_t texts,
                    const uint8_t *sign, uint8_t *const *parted) {
    for (int64_t d = 0; d < texts; d++) {
        const uint8_t *s = text[d], *end = s + bytes[d];
        uint8_t *to = parted[d];
        while (s < end) {
            int more = more_bytes(*s), is_sign = more > 1 && has_bit(sign, point_at(s, more));
            if (is_sign) *to++ = ' ';
            for (int i = 0; i <= more; i++) *to++ = *s++;
            if (is_sign) *to++ = ' ';
        }
        bytes[d] = to - parted[d];
    }
}

API int64_t count_words(const uint8_t *const *text, const int64_t *bytes, int64_t texts) {
    int64_t count = 0;
    for (int64_t d = 0; d < texts; d++) {
        uint64_t was_space = 0x80;
        int64_t i = 0;
        for (; i + 8 <= bytes[d]; i += 8) {
            uint64_t spaces = spaces_of(load8(text[d] + i));
            count += __builtin_popcountll(~spaces & ((spaces << 8) | was_space) & 0x8080808080808080u);
            was_space = spaces >> 56;
        }
        for (; i < bytes[d]; i++) {
            uint64_t space = spaces_of(text[d][i]) & 0x80;
            count += was_space && !space;
            was_space = space;
        }
    }
    return count;
}

/* The hash of every word, text after text, and the number of words of each text. */
API int64_t hash_words(const uint8_t *const *text, const int64_t *bytes, int64_t texts,
                       uint64_t *word, int64_t *count) {
    Scratch scratch = {NULL, NULL, -1};
    int64_t done = 0;
    for (int64_t d = 0; d < texts; d++) {
        count[d] = words_of(text[d], bytes[d], &scratch);
        if (count[d] < 0) return -1;
        memcpy(word + done, scratch.word, count[d] * sizeof(uint64_t));
        done += count[d];
    }
    scratch_free(&scratch);
    return done;
}

/* ---- sets of shingles --------------------------------------------------------------------- */

typedef struct {
    uint64_t *slot; /* 0 is free: no shingle hashes to 0 */
    int shift;
    int64_t room;
} Set;

static int set_clear(Set *set, int64_t count) {
    int64_t size = 8;
    int bits = 3;
    while (size < 2 * count) size *= 2, bits++;
    if (size > set->room) {
        free(set->slot);
        set->slot = malloc(size * sizeof(uint64_t));
        set->room = set->slot ? size : 0;
        if (!set->slot) return 0;
    }
    memset(set->slot, 0, size * sizeof(uint64_t));
    set->shift = 64 - bits;
    return 1;
}

static inline int set_add(Set *set, uint64_t hash) { /* 1 where it was not there */
    uint64_t last = (1ull << (64 - set->shift)) - 1;
    for (uint64_t i = hash >> set->shift;; i = (i + 1) & last) {
        if (set->slot[i] == hash) return 0;
        if (!set->slot[i]) return set->slot[i] = hash, 1;
    }
}

static inline int set_has(const Set *set, uint64_t hash) {
    uint64_t last = (1ull << (64 - set->shift)) - 1;
    for (uint64_t i = hash >> set->shift;; i = (i + 1) & last) {
        if (set->slot[i] == hash) return 1;
        if (!set->slot[i]) return 0;
    }
}

/* The distinct word 3-grams of each text, those of text d at hash[start[d] .. start[d + 1]).
 * A text under three words is one shingle. `hash` has room for `count_words` numbers. */
API int64_t shingle_texts(const uint8_t *const *text, const int64_t *bytes, int64_t texts,
                          uint64_t *hash, int64_t *start) {
    Scratch scratch = {NULL, NULL, -1};
    Set set = {0};
    int64_t done = 0, d = 0;
    for (; d < texts; d++) {
        start[d] = done;
        int64_t words = words_of(text[d], bytes[d], &scratch);
        if (words < 0) break;
        if (!words) continue;
        uint64_t *word = scratch.word;
        word[words] = word[words + 1] = 0; /* fills up short texts */
        int64_t count = words > 2 ? words - 2 : 1;
        if (!set_clear(&set, count)) break;
        for (int64_t i = 0; i < count; i++) {
            uint64_t h = word[i] * FIRST + word[i + 1] * SECOND + word[i + 2] * THIRD;
            h ^= h >> 32;
            h *= LAST;
            h ^= h >> 29;
            h += !h;
            hash[done] = h;
            done += set_add(&set, h);
        }
    }
    scratch_free(&scratch);
    free(set.slot);
    start[d] = done;
    return d < texts ? -1 : done;
}

/* Add to the saturating count of texts in the slot of each shingle: its top `bits` bits. */
API void count_texts(const uint64_t *hash, int64_t count, int bits, uint8_t *frequency) {
#if defined(MADV_HUGEPAGE)
    uintptr_t page = (1 << 21) - 1, from = ((uintptr_t)frequency + page) & ~page;
    uintptr_t end = ((uintptr_t)frequency + (1ull << bits)) & ~page;
    if (end > from) madvise((void *)from, end - from, MADV_HUGEPAGE);
#endif
    int shift = 64 - bits;
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count) __builtin_prefetch(frequency + (hash[i + AHEAD] >> shift), 1);
        uint8_t *slot = frequency + (hash[i] >> shift);
        *slot += *slot != 255;
    }
}

static inline int64_t prefix_length(int64_t size, double threshold) {
    int64_t length = size - (int64_t)ceil(threshold * (double)size - SLACK) + 1;
    return length < size ? length : size;
}

/* Bring the `count` smallest of n numbers to the front (Hoare's selection). */
static void smallest_first(uint64_t *value, int64_t n, int64_t count) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        uint64_t pivot = value[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (value[i] < pivot) i++;
            while (value[j] > pivot) j--;
            if (i <= j) {
                uint64_t swapped = value[i];
                value[i++] = value[j];
                value[j--] = swapped;
            }
        }
        if (count - 1 <= j) high = j;
        else if (count - 1 >= i) low = i;
        else return;
    }
}

/* The prefix of each set in the order (frequency, hash): those of text d at
 * out[start_out[d] .. start_out[d + 1]). With `skip_unique`, shingles of frequency 1 are left out:
 * nobody else has them. `out` has room for all prefixes and one more. Returns the number of
 * shingles written. */
API int64_t find_prefixes(const uint64_t *hash, const int64_t *start, int64_t texts,
                          const uint8_t *frequency, int bits, double threshold, int skip_unique,
                          uint64_t *out, int64_t *start_out) {
    int64_t done = 0, room = 0, all = start[texts];
    uint8_t *f = NULL;
    uint64_t *ties = NULL;
    int shift = 64 - bits, least = skip_unique ? 2 : 0;
    for (int64_t d = 0; d < texts; d++) {
        const uint64_t *h = hash + start[d];
        int64_t n = start[d + 1] - start[d];
        start_out[d] = done;
        if (!n) continue;
        if (n > room) {
            free(f);
            free(ties);
            room = 2 * n;
            f = malloc(room);
            ties = malloc((room + 1) * sizeof(uint64_t));
            if (!f || !ties) return free(f), free(ties), -1;
        }
        int64_t unique = 0;
        for (int64_t i = 0; i < n; i++) {
            int64_t next = start[d] + i + AHEAD;
            if (next < all) __builtin_prefetch(frequency + (hash[next] >> shift), 0);
            f[i] = frequency[h[i] >> shift];
            unique += f[i] <= 1;
        }
        int64_t wanted = prefix_length(n, threshold);
        if (skip_unique && unique >= wanted) continue;
        int64_t of[256] = {0}, below = 0;
        int cut = 0;
        for (int64_t i = 0; i < n; i++) of[f[i]]++;
        while (below + of[cut] < wanted) below += of[cut++];
        int64_t tied = 0;
        for (int64_t i = 0; i < n; i++) { /* without branches: nobody can foretell them */
            ties[tied] = h[i];
            tied += f[i] == cut;
            out[done] = h[i];
            done += (f[i] < cut) & (f[i] >= least);
        }
        if (below + tied > wanted) smallest_first(ties, tied, wanted - below);
        for (int64_t i = 0; i < wanted - below; i++) out[done++] = ties[i];
    }
    free(f);
    free(ties);
    start_out[texts] = done;
    return done;
}

/* How many shingles each pair of sets has in common; pairs of one `first` are best kept together. */
API int64_t count_common(const uint64_t *hash, const int64_t *start, int64_t pairs,
                         const int64_t *first, const int64_t *second, int64_t *common) {
    Set set = {0};
    for (int64_t p = 0; p < pairs; p++) {
        int64_t a = first[p], b = second[p];
        if (!p || first[p - 1] != a) {
            if (!set_clear(&set, start[a + 1] - start[a])) return -1;
            for (int64_t i = start[a]; i < start[a + 1]; i++) set_add(&set, hash[i]);
        }
        common[p] = 0;
        for (int64_t i = start[b]; i < start[b + 1]; i++) common[p] += set_has(&set, hash[i]);
    }
    free(set.slot);
    return pairs;
}

/* ---- the join ----------------------------------------------------------------------------- */

typedef struct {
    int64_t *value; /* three numbers a pair: first text, second text, shingles in common */
    int64_t count, room;
} Pairs;

static int push(Pairs *pairs, int64_t a, int64_t b, int64_t common) {
    if (pairs->count == pairs->room) {
        int64_t room = pairs->room ? 2 * pairs->room : 1024;
        int64_t *value = realloc(pairs->value, 3 * room * sizeof(int64_t));
        if (!value) return 0;
        pairs->value = value;
        pairs->room = room;
    }
    int64_t *next = pairs->value + 3 * pairs->count++;
    next[0] = a, next[1] = b, next[2] = common;
    return 1;
}

typedef struct {
    uint64_t *key;  /* shingle of each slot, 0 where free */
    uint32_t *list; /* its list */
    int shift;
    uint64_t last;
} Lists;

/* Prefixes take the smallest of equally rare hashes, so that their top bits alone would crowd. */
static inline uint64_t slot_of(uint64_t hash, int shift) { return hash * LAST >> shift; }

/* SIGNATURE * 64 bits of each set, of which every shingle sets one; `bits` are zeros before. */
API void sign_sets(const uint64_t *hash, const int64_t *start, int64_t texts, uint64_t *bits) {
    for (int64_t d = 0; d < texts; d++, bits += SIGNATURE)
        for (int64_t i = start[d]; i < start[d + 1]; i++)
            bits[hash[i] >> 6 & (SIGNATURE - 1)] |= 1ull << (hash[i] & 63);
}

static inline int64_t at_most(const uint64_t *a, int64_t na, const uint64_t *b, int64_t nb) {
    int64_t only_a = 0, only_b = 0; /* a bit that one set alone has is no common shingle */
    for (int i = 0; i < SIGNATURE; i++) {
        only_a += __builtin_popcountll(a[i] & ~b[i]);
        only_b += __builtin_popcountll(b[i] & ~a[i]);
    }
    return na - only_a < nb - only_b ? na - only_a : nb - only_b;
}

/* Mark in `alone` the postings whose shingle no other posting has: they bring no two texts together,
 * and most are such. Counts up to two in slots of two bits; a few that share one by chance are not
 * marked. Returns the number of the others, or -1. */
static int64_t find_alone(const uint64_t *prefix, int64_t postings, uint32_t *alone) {
    int bits = 10;
    while ((1ll << bits) < 8 * postings) bits++;
    uint64_t *count = calloc(1ull << (bits - 5), sizeof(uint64_t));
    int64_t others = 0;
    if (!count) return -1;
    for (int64_t i = 0; i < postings; i++) {
        if (i + AHEAD < postings) __builtin_prefetch(count + (slot_of(prefix[i + AHEAD], 64 - bits) >> 5), 1);
        uint64_t slot = slot_of(prefix[i], 64 - bits), one = 1ull << 2 * (slot & 31);
        if (!(count[slot >> 5] & 2 * one)) count[slot >> 5] += one;
    }
    for (int64_t i = 0; i < postings; i++) {
        if (i + AHEAD < postings) __builtin_prefetch(count + (slot_of(prefix[i + AHEAD], 64 - bits) >> 5));
        uint64_t slot = slot_of(prefix[i], 64 - bits);
        int is_shared = count[slot >> 5] >> 2 * (slot & 31) >> 1 & 1;
        alone[i] = is_shared ? 0 : ALONE;
        others += is_shared;
    }
    free(count);
    return others;
}

/* All pairs of sets that share a shingle of `prefix` and reach `threshold`: their number, and in
 * *found three numbers for each, to be given to `release`. first < second in every pair.
 * `signature` is of `sign_sets`: of most sets nothing else is looked at, and `hash` may lie on disk. */
API int64_t join_prefixes(const uint64_t *hash, const int64_t *start, int64_t texts,
                          const uint64_t *prefix, const int64_t *prefix_start,
                          const uint64_t *signature, double threshold,
                          int64_t **found, int64_t *candidates) {
    int64_t postings = prefix_start[texts], lists = 0;
    Lists table = {0};
    uint32_t *list = malloc((postings + 1) * sizeof(uint32_t)); /* of each posting, or ALONE */
    int64_t *offset = NULL, *fill = NULL;                       /* of each list */
    uint64_t *member = NULL;                                    /* size << 32 | text */
    uint32_t *seen = calloc(texts + 1, sizeof(uint32_t));
    Pairs pairs = {0};
    Set set = {0};
    int64_t met = 0, failed = 1;
    int64_t shared = list ? find_alone(prefix, postings, list) : -1;
    if (shared < 0 || !seen) goto end;
    int bits = 4;
    while ((1ll << bits) < 2 * shared) bits++;
    table = (Lists){calloc(1ull << bits, sizeof(uint64_t)), malloc((1ull << bits) * sizeof(uint32_t)),
                    64 - bits, (1ull << bits) - 1};
    offset = calloc(shared + 2, sizeof(int64_t));
    member = malloc((shared + 1) * sizeof(uint64_t));
    if (!table.key || !table.list || !offset || !member) goto end;

    for (int64_t i = 0; i < postings; i++) {
        if (i + AHEAD < postings && list[i + AHEAD] != ALONE)
            __builtin_prefetch(table.key + slot_of(prefix[i + AHEAD], table.shift));
        if (list[i] == ALONE) continue;
        uint64_t slot = slot_of(prefix[i], table.shift);
        while (table.key[slot] && table.key[slot] != prefix[i]) slot = (slot + 1) & table.last;
        if (!table.key[slot]) table.key[slot] = prefix[i], table.list[slot] = (uint32_t)lists++;
        list[i] = table.list[slot];
        offset[list[i] + 1]++;
    }
    free(table.key), free(table.list);
    table.key = NULL, table.list = NULL;
    for (int64_t l = 0; l < lists; l++) offset[l + 1] += offset[l];
    if (!(fill = calloc(lists + 1, sizeof(int64_t)))) goto end;
    /* Lists fill up in the order of the texts: what a text finds in them came before it. */
    for (int64_t d = 0; d < texts; d++) {
        int64_t size = start[d + 1] - start[d], is_set = 0;
        const uint64_t *mine = signature + SIGNATURE * d;
        for (int64_t i = prefix_start[d]; i < prefix_start[d + 1]; i++) {
            if (list[i] == ALONE) continue;
            uint64_t *members = member + offset[list[i]];
            int64_t length = fill[list[i]]++;
            for (int64_t k = 0; k < length; k++) {
                uint32_t e = (uint32_t)members[k];
                int64_t other = (int64_t)(members[k] >> 32), small = other < size ? other : size;
                int64_t large = other < size ? size : other;
                if ((double)small < threshold * (double)large - SLACK || seen[e] == d + 1) continue;
                seen[e] = (uint32_t)(d + 1);
                int64_t both = size + other;
                int64_t need = (int64_t)ceil(threshold / (1 + threshold) * (double)both - SLACK);
                if (at_most(mine, size, signature + SIGNATURE * e, other) < need) continue;
                met++;
                if (!is_set) {
                    if (!set_clear(&set, size)) goto end;
                    for (int64_t j = start[d]; j < start[d + 1]; j++) set_add(&set, hash[j]);
                    is_set = 1;
                }
                int64_t common = 0, spare = other - need;
                for (int64_t j = start[e]; j < start[e + 1] && spare >= 0; j++) {
                    int has = set_has(&set, hash[j]);
                    common += has;
                    spare -= !has;
                }
                double similarity = (double)common / (double)(both - common);
                if (spare >= 0 && similarity >= threshold - SLACK && !push(&pairs, e, d, common))
                    goto end;
            }
            members[length] = (uint64_t)size << 32 | (uint64_t)d;
        }
    }
    failed = 0;
end:
    free(table.key), free(table.list), free(list), free(offset), free(member);
    free(seen), free(set.slot), free(fill);
    if (failed) free(pairs.value), pairs.value = NULL;
    *found = pairs.value;
    *candidates = met;
    return failed ? -1 : pairs.count;
}

/* ---- runs of words ------------------------------------------------------------------------ */

#define SIZES 16 /* different lengths of runs in one scan */

static const uint64_t BASE = 0x9FB21C651E98DF25u;

static inline uint64_t finish_run(uint64_t sum, int64_t size) {
    sum += (uint64_t)size * LENGTH;
    sum ^= sum >> 32;
    sum *= LAST;
    return sum ^ (sum >> 29);
}

/* Where runs of words begin whose hash is among `wanted`: their number, and in *found three
 * numbers for each: text, place of its first word, index of the hash. A hash may stand there once.
 * Of each run of n words the sum of word[k] * BASE^(n - 1 - k) is a difference of two prefix sums,
 * so that every further size of run costs two multiplications a word. */
API int64_t find_runs(const uint8_t *const *text, const int64_t *bytes, int64_t texts,
                      const int64_t *size, int64_t sizes, const uint64_t *wanted, int64_t count,
                      int64_t **found) {
    int bits = 12, filter_bits = 16;
    while ((1ll << bits) < 2 * count) bits++;
    while (filter_bits < 30 && (1ll << filter_bits) < 32 * count) filter_bits++;
    int shift = 64 - bits, filter_shift = 64 - filter_bits;
    uint64_t last = (1ull << bits) - 1, power[SIZES];
    int64_t *index = malloc((1ull << bits) * sizeof(int64_t)); /* in `wanted`, -1 where free */
    uint64_t *filter = calloc(1ull << (filter_bits - 6), sizeof(uint64_t));
    Scratch scratch = {NULL, NULL, -1};
    Pairs hits = {0};
    int64_t failed = 1;
    if (!index || !filter || sizes > SIZES) goto end;
    memset(index, 0xff, (1ull << bits) * sizeof(int64_t));
    for (int64_t i = 0; i < count; i++) {
        uint64_t slot = wanted[i] >> shift, bit = wanted[i] >> filter_shift;
        while (index[slot] >= 0) slot = (slot + 1) & last;
        index[slot] = i;
        filter[bit >> 6] |= 1ull << (bit & 63);
    }
    for (int64_t k = 0; k < sizes; k++) {
        power[k] = 1;
        for (int64_t i = 0; i < size[k]; i++) power[k] *= BASE;
    }
    for (int64_t d = 0; d < texts; d++) {
        int64_t words = words_of(text[d], bytes[d], &scratch);
        if (words < 0) goto end;
        uint64_t *sum = scratch.word; /* sum[i]: of the words up to and with i */
        for (int64_t i = 1; i < words; i++) sum[i] += sum[i - 1] * BASE;
        for (int64_t k = 0; k < sizes; k++) {
            for (int64_t i = 0; i + size[k] <= words; i++) {
                uint64_t before = i ? sum[i - 1] * power[k] : 0;
                uint64_t hash = finish_run(sum[i + size[k] - 1] - before, size[k]);
                uint64_t bit = hash >> filter_shift;
                if (!(filter[bit >> 6] >> (bit & 63) & 1)) continue;
                for (uint64_t slot = hash >> shift; index[slot] >= 0; slot = (slot + 1) & last)
                    if (wanted[index[slot]] == hash) {
                        if (!push(&hits, d, i, index[slot])) goto end;
                        break;
                    }
            }
        }
    }
    failed = 0;
end:
    free(index), free(filter);
    scratch_free(&scratch);
    if (failed) free(hits.value), hits.value = NULL;
    *found = hits.value;
    return failed ? -1 : hits.count;
}
