/* flywheel's own JSONL by the block: lines that are quite ordinary become columns, the rest is left.
 *
 * Plain C without Python.h: setuptools compiles it, `native.py` loads it with ctypes, which lets go
 * of the interpreter lock for the time of a call. What a line is, Python alone decides (`unit.py`,
 * `formats/own.py`, `columns.py`); here is only what needs no decision: an object of strings and
 * short numbers, every key known and given once, every sign one that NFC leaves alone. Whatever is
 * anything else is left, and costs what it always did. So nothing here has to be complete, and all
 * of it has to be exact: rows, keys and hashes are those that Python makes, to the last bit.
 *
 * Which kinds and fields there are is told by `native.py`, from the types in `flywheel/records`.
 * Texts are kept once (`Texts`) and rows hold their places, as Arrow's dictionary arrays do.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hashes.h"
#include "json.h"
#include "texts.h"

#define LINES_VERSION 2 /* of what the functions compute and take; `native.py` asks for it */
#define API __attribute__((visibility("default")))
#define FIELDS 64 /* of all kinds together: a bit each */
#define KINDS 16
#define SAID 12
#define AT_ONCE 256 /* rows whose hashes are made together, while all of it is in the cache */
#define NOTHING INT64_MIN /* a moment that was not given */

/* What a field holds; the numbers are those of `native.py`. */
enum { LEAVE, TEXT, CHOICE, NUMBER, MOMENT, TURNS, ID, GROUP, OBJECT };
/* ---- kinds, fields and rows --------------------------------------------------------------- */

typedef struct {
    int how, is_required, may_be_empty;
    double least, most, usual; /* NUMBER: its limits, and what stands where none is given */
    Texts choices;
    Bytes key_start;             /* TURNS: what comes before the text in its key */
    Bytes standard;              /* what stands where nothing is given; of NUMBER its JSON */
    Texts texts;                 /* what the column holds; of TURNS the words */
    Bytes rows;                  /* per row: int32 place of the text, double or int64 */
    Texts keys;                  /* TURNS: keys in hex, each once */
    Bytes key_of_text, key_rows; /* TURNS: int32 place of the key by text, by row */
    const uint8_t *last;         /* the raw string that was looked up last, and its place */
    int64_t last_place, usual_place; /* of the standard, or -1 */
} Field;

typedef struct {
    Bytes name; /* in quotation marks */
    uint64_t known, required;
    Field field[FIELDS];
    int said[SAID], said_count, scale[3], has_scale;
    Bytes line_no, offset, uid, sha256, record_id, id_end; /* per row; hex has its fixed width */
    Bytes event, event_end, gap, place, place_end; /* of rows without hashes: what is hashed */
    Texts groups;
    Bytes group_rows;
    int64_t rows;
} Kind;

typedef struct { /* where in an event the key of a text belongs */
    int64_t at;
    int32_t field, text;
} Gap;

typedef struct {
    Bytes name[FIELDS]; /* with both quotation marks */
    int name_count, kind_field, after[FIELDS + 1];
    Kind *kind[KINDS];
    int kind_count, id, annotator, prompt, moment, group;
    Bytes batch_id; /* and a colon */
    Value value[FIELDS], last[FIELDS];
    Bytes plain, normal, normal_end, hex, object, left; /* `left`: int64 line, start and size of each line left */
} Lines;

/* ---- parsing ------------------------------------------------------------------------------ */

static inline int is_same(const uint8_t *one, const uint8_t *other, int64_t size) {
    if (size < 8 || size > 16) return !memcmp(one, other, size);
    return load8(one) == load8(other) && load8(one + size - 8) == load8(other + size - 8);
}

/* The field that is named at `at`, the mark in front included; -1 where none is. */
static int field_at(const Lines *lines, const uint8_t *at, const uint8_t *end, int before) {
    int guess = lines->after[before + 1];
    for (int tried = -1; tried < lines->name_count; tried++) {
        const Bytes *name = &lines->name[tried < 0 ? guess : tried];
        if (end - at > name->size && is_same(at, name->at, name->size)) return tried < 0 ? guess : tried;
    }
    return -1;
}

static const uint8_t *value_end(Lines *lines, const uint8_t *at, const uint8_t *end, Value *value, const Value *last) {
    if (at < end && *at == '{') return object_end(&lines->object, &lines->plain, at, end, value);
    if (at < end && *at == '"' && last->at && end - at > last->size + 1 && !memcmp(at + 1, last->at, last->size + 1)) {
        *value = *last; /* the same up to its end mark: it need not be read again */
        return at + last->size + 2;
    }
    return leaf_end(at, end, value);
}

/* Read the line at `at` into `lines->value`, and where it ends into `stop`; the bits of the fields
 * that were given, 0 where it is left. Nothing that is read here goes beyond the end of a line. */
static uint64_t read_line(Lines *lines, const uint8_t *at, const uint8_t *end, const uint8_t **stop) {
    uint64_t given = 0, seen = 0;
    int field = -1;
    at = skip_space(at, end);
    if (at == end || *at != '{') return 0;
    do {
        at = skip_space(at + 1, end);
        int before = field;
        field = field_at(lines, at, end, before);
        if (field < 0 || seen >> field & 1) return 0;
        lines->after[before + 1] = field;
        seen |= 1ull << field;
        at = skip_space(at + lines->name[field].size, end);
        if (at == end || *at != ':') return 0;
        Value *value = &lines->value[field];
        at = value_end(lines, skip_space(at + 1, end), end, value, &lines->last[field]);
        if (!at) return 0;
        if (value->is == STRING || value->is == ESCAPED) lines->last[field] = *value;
        if (value->is != NULL_VALUE) given |= 1ull << field; /* a null is a key not given */
        at = skip_space(at, end);
    } while (at < end && *at == ',');
    if (at == end || *at != '}') return 0;
    *stop = skip_space(at + 1, end);
    return *stop == end || **stop == '\n' ? given : 0;
}

/* ---- what a line must be ------------------------------------------------------------------ */

static int digits_at(const uint8_t *at, int count) {
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9') return -1;
        value = 10 * value + at[i] - '0';
    }
    return value;
}

/* Microseconds since 1970 of YYYY-MM-DDTHH:MM:SS[.ffffff][Z]; NOTHING for any other form. */
static int64_t moment_of(const Value *value) {
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint8_t *at = value->at;
    int64_t size = value->size - (value->size && at[value->size - 1] == 'Z');
    if (size < 19 || size > 26 || size == 20 || at[4] != '-' || at[7] != '-') return NOTHING;
    if (at[10] != 'T' || at[13] != ':' || at[16] != ':' || (size > 19 && at[19] != '.')) return NOTHING;
    int year = digits_at(at, 4), month = digits_at(at + 5, 2), day = digits_at(at + 8, 2);
    int hour = digits_at(at + 11, 2), minute = digits_at(at + 14, 2), second = digits_at(at + 17, 2);
    int fraction = size > 19 ? digits_at(at + 20, (int)size - 20) : 0;
    if (year < 1 || month < 1 || month > 12 || hour < 0 || hour > 23 || minute < 0 || minute > 59) return NOTHING;
    int leaps = month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0);
    if (day < 1 || day > DAYS[month - 1] + leaps || second < 0 || second > 59 || fraction < 0) return NOTHING;
    for (int64_t i = size > 19 ? size : 26; i < 26; i++) fraction *= 10;
    int64_t years = year - (month <= 2), of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = 365 * years + years / 4 - years / 100 + years / 400 + of_year - 719468;
    return ((days * 24 + hour) * 60 + minute) * 60000000 + (int64_t)second * 1000000 + fraction;
}

static int fits(Field *field, Value *value) {
    int is_text = value->is == STRING || value->is == ESCAPED;
    switch (field->how) {
    case TEXT: return is_text && (value->size || field->may_be_empty);
    case TURNS: case ID: case GROUP: return is_text && value->size;
    case CHOICE:
        for (int64_t i = 0, size; i < field->choices.count; i++) {
            const uint8_t *choice = text_at(&field->choices, i, &size);
            if (value->is == STRING && size == value->size && !memcmp(choice, value->at, size)) return 1;
        }
        return 0;
    case NUMBER: return value->is == NUMERAL && value->number >= field->least && value->number <= field->most;
    case MOMENT: return value->is == STRING && moment_of(value) != NOTHING;
    case OBJECT: return value->is == WRITTEN;
    default: return 0;
    }
}

/* The kind of the line that was read; NULL where the line is left. */
static Kind *kind_of(Lines *lines, uint64_t given) {
    const Value *named = &lines->value[lines->kind_field];
    Kind *kind = NULL;
    if (!(given >> lines->kind_field & 1) || named->is != STRING) return NULL;
    for (int i = 0; i < lines->kind_count && !kind; i++) {
        const Bytes *name = &lines->kind[i]->name;
        if (name->size == named->size + 2 && !memcmp(name->at + 1, named->at, named->size)) kind = lines->kind[i];
    }
    if (!kind || given & ~kind->known || kind->required & ~given) return NULL;
    for (uint64_t rest = given & ~(1ull << lines->kind_field); rest; rest &= rest - 1) {
        int i = __builtin_ctzll(rest);
        if (!fits(&kind->field[i], &lines->value[i])) return NULL;
    }
    const Value *annotator = &lines->value[lines->annotator];
    uint64_t names = 1ull << lines->id | 1ull << lines->annotator | 1ull << lines->moment;
    if (!(given & names)) return NULL; /* nobody's: told from its like by its place in the file */
    if (given >> lines->annotator & 1 && (annotator->is == ESCAPED || memchr(annotator->at, '@', annotator->size)))
        return NULL; /* an address, which gets a pseudonym */
    if (kind->has_scale) {
        double low = lines->value[kind->scale[0]].number, high = lines->value[kind->scale[2]].number;
        double rating = lines->value[kind->scale[1]].number;
        if (!(low <= rating && rating <= high)) return NULL;
    }
    for (int i = 0; i < kind->said_count; i++) { /* smaller numbers are written with an exponent */
        double number = lines->value[kind->said[i]].number;
        if (kind->field[kind->said[i]].how == NUMBER && number && number < 1e-3 && number > -1e-3) return NULL;
    }
    return kind;
}

/* ---- rows --------------------------------------------------------------------------------- */

static int is_space(uint8_t sign) { return sign == ' ' || (sign >= 9 && sign <= 13); }

/* A text as it is compared (`keys.normalised`), behind the start of its key and its size. */
static int append_key(Bytes *key, const Field *field, const uint8_t *text, int64_t size) {
    if (!append(key, field->key_start.at, field->key_start.size) || !make_room(key, size + 8)) return 0;
    uint8_t *start = key->at + key->size + 8, *to = start;
    const uint8_t *at = text, *end = text + size;
    while (at < end) { /* line by line: white space at its end goes, and CR and CRLF are LF */
        const uint8_t *stop = memchr(at, '\n', end - at);
        if (!stop) stop = end;
        const uint8_t *cr = memchr(at, '\r', stop - at);
        if (cr) stop = cr;
        memcpy(to, at, stop - at);
        to += stop - at;
        while (to > start && is_space(to[-1]) && to[-1] != '\n') to--;
        if (stop < end) *to++ = '\n';
        at = stop == end ? end : stop + 1 + (cr && stop + 1 < end && stop[1] == '\n');
    }
    while (to > start && is_space(to[-1])) to--;
    int64_t length = to - start;
    memcpy(start - 8, &length, 8);
    key->size += 8 + length;
    return 1;
}

static int64_t place_of_string(Lines *lines, Field *field, const Value *value) {
    if (field->last == value->at && value->is != WRITTEN) return field->last_place;
    int64_t size;
    const uint8_t *text = plain_of(&lines->plain, value, &size);
    uint64_t hash = value->is == STRING ? value->hash : text ? hash_of(text, size) : 0;
    field->last = value->at;
    return field->last_place = text ? place_by(&field->texts, hash, text, size) : -1;
}

static const uint8_t *key_at(const Field *field, int64_t text) {
    int64_t size;
    return text_at(&field->keys, ((const int32_t *)field->key_of_text.at)[text], &size);
}

/* A number as msgspec writes it, from the digits that were given: 3 is 3.0, and 0.50 is 0.5. */
static int append_number(Bytes *json, const Value *value) {
    int64_t size = value->size;
    int has_point = memchr(value->at, '.', size) != NULL;
    while (has_point && value->at[size - 1] == '0' && value->at[size - 2] != '.') size--;
    return append(json, value->at, size) && (has_point || append_text(json, ".0"));
}

static int append_moment(Bytes *json, const Value *value) {
    uint8_t text[26] = "0000-00-00T00:00:00.000000";
    int64_t size = value->size - (value->at[value->size - 1] == 'Z');
    memcpy(text, value->at, size);
    return append_string(json, text, memcmp(text + 20, "000000", 6) ? 26 : 19);
}

/* What one field says in the event: its key, its text, its number, or null. */
static int append_said(Kind *kind, int at, const Value *value, int is_given) {
    const Field *field = &kind->field[at];
    Bytes *json = &kind->event;
    int64_t size;
    int32_t place;
    if (field->how == NUMBER && is_given) return append_number(json, value);
    if (field->how == NUMBER) return append(json, field->standard.at, field->standard.size);
    if (field->how == MOMENT) return is_given ? append_moment(json, value) : append_text(json, "null");
    memcpy(&place, field->rows.at + field->rows.size - 4, 4);
    if (place < 0) return append_text(json, "null");
    if (field->how == TURNS) {
        Gap gap = {json->size + 1, at, place};
        return append(&kind->gap, &gap, sizeof gap) && append_text(json, "\"                                \"");
    }
    const uint8_t *text = text_at(&field->texts, place, &size);
    return append_string(json, text, size);
}

static int add_field(Lines *lines, Field *field, Value *value, int is_given) {
    int64_t place = -1;
    if (field->how == NUMBER) return append(&field->rows, is_given ? &value->number : &field->usual, 8);
    if (field->how == MOMENT) {
        int64_t moment = is_given ? moment_of(value) : NOTHING;
        return append(&field->rows, &moment, 8);
    }
    if (field->how == ID || field->how == GROUP || field->how == LEAVE) return 1;
    if (is_given || field->standard.size) {
        if (is_given)
            place = place_of_string(lines, field, value);
        else if ((place = field->usual_place) < 0)
            place = field->usual_place = place_of(&field->texts, field->standard.at, field->standard.size);
        if (place < 0) return 0;
    }
    return append_end(&field->rows, place);
}

static int append_count(Bytes *bytes, int64_t number) {
    uint8_t digits[20];
    int size = 0;
    do digits[19 - size++] = (uint8_t)('0' + number % 10);
    while (number /= 10);
    return append(bytes, digits + 20 - size, size);
}

static int add_row(Lines *lines, Kind *kind, uint64_t given, int64_t line_no, int64_t offset) {
    int64_t size;
    for (uint64_t rest = given; rest; rest &= rest - 1) { /* all look-ups wait for memory at once */
        int i = __builtin_ctzll(rest);
        Field *field = &kind->field[i];
        Value *value = &lines->value[i];
        if (value->is == STRING && field->how != MOMENT && field->last != value->at)
            value->hash = expect(&field->texts, value->at, value->size);
    }
    for (uint64_t rest = kind->known; rest; rest &= rest - 1) {
        int i = __builtin_ctzll(rest);
        if (!add_field(lines, &kind->field[i], &lines->value[i], given >> i & 1)) return 0;
    }
    const Value *group = &lines->value[lines->group], *id = &lines->value[lines->id];
    int has_group = given >> lines->group & 1, has_id = given >> lines->id & 1;
    int64_t place = -1;
    if (has_group) {
        const uint8_t *text = plain_of(&lines->plain, group, &size);
        place = text ? place_of(&kind->groups, text, size) : -1;
        if (place < 0) return 0;
    }
    if (!append_end(&kind->group_rows, place)) return 0;

    Bytes *event = &kind->event, *named = &kind->place;
    int done = append_text(event, "[") && append(event, kind->name.at, kind->name.size) && append_text(event, ",");
    const uint8_t *own = has_id ? plain_of(&lines->plain, id, &size) : NULL;
    if (has_id && !own) return 0;
    done = done && (has_id ? append_string(event, own, size) : append_text(event, "null"));
    for (int i = 0; done && i < kind->said_count; i++) {
        int said = kind->said[i];
        done = append_text(event, ",") && append_said(kind, said, &lines->value[said], given >> said & 1);
    }
    if (!done || !append_text(event, "]") || !append(&kind->event_end, &event->size, 8)) return 0;
    if (has_id) done = append(&kind->record_id, own, size);
    if (!kind->rows && !append_end(&kind->id_end, 0)) return 0;
    if (!done || !append_end(&kind->id_end, kind->record_id.size)) return 0;

    done = append(named, lines->batch_id.at, lines->batch_id.size) && append_count(named, line_no);
    if (!done || !append_text(named, ":0") || !append(&kind->place_end, &named->size, 8)) return 0;
    kind->rows++;
    return append(&kind->line_no, &line_no, 8) && append(&kind->offset, &offset, 8);
}

/* Make the keys of new texts, and look up the key of each row. */
static int add_keys(Lines *lines, Field *field, int64_t rows) {
    Bytes *normal = &lines->normal, *hex = &lines->hex;
    int64_t known = field->key_of_text.size / 4, count = field->texts.count - known, size;
    normal->size = lines->normal_end.size = 0;
    for (int64_t i = known; i < known + count; i++) {
        const uint8_t *text = text_at(&field->texts, i, &size);
        if (!append_key(normal, field, text, size) || !append(&lines->normal_end, &normal->size, 8)) return 0;
    }
    hex->size = 0;
    if (!make_room(hex, 32 * count)) return 0;
    if (count) blake2b_hex(normal->at, (const int64_t *)lines->normal_end.at, count, 0, hex->at);
    for (int64_t i = 0; i < count; i++) {
        if (i + 8 < count) expect(&field->keys, hex->at + 32 * (i + 8), 32);
        int64_t key = place_of(&field->keys, hex->at + 32 * i, 32);
        if (key < 0 || !append_end(&field->key_of_text, key)) return 0;
    }
    for (int64_t row = field->key_rows.size / 4; row < rows; row++) {
        int32_t text = ((const int32_t *)field->rows.at)[row];
        if (!append_end(&field->key_rows, text < 0 ? -1 : ((const int32_t *)field->key_of_text.at)[text])) return 0;
    }
    return 1;
}

/* Make the keys and hashes of the rows that have none yet, all of a sort together. */
static int add_hashes(Lines *lines, Kind *kind) {
    int64_t count = kind->event_end.size / 8, start = 0;
    const int64_t *end = (const int64_t *)kind->event_end.at;
    if (!count) return 1;
    for (int i = 0; i < lines->name_count; i++)
        if (kind->known >> i & 1 && kind->field[i].how == TURNS && !add_keys(lines, &kind->field[i], kind->rows)) return 0;
    for (int64_t at = 0; at < kind->gap.size; at += sizeof(Gap)) {
        const Gap *gap = (const Gap *)(kind->gap.at + at);
        memcpy(kind->event.at + gap->at, key_at(&kind->field[gap->field], gap->text), 32);
    }
    if (!make_room(&kind->sha256, 64 * count) || !make_room(&kind->uid, 32 * count)) return 0;
    for (int64_t i = 0; i < count; start = end[i++], kind->sha256.size += 64)
        sha256_hex(kind->event.at + start, end[i] - start, 0, kind->sha256.at + kind->sha256.size);
    blake2b_hex(kind->place.at, (const int64_t *)kind->place_end.at, count, 0, kind->uid.at + kind->uid.size);
    kind->uid.size += 32 * count;
    kind->event.size = kind->event_end.size = kind->gap.size = kind->place.size = kind->place_end.size = 0;
    return 1;
}

/* ---- what native.py calls ----------------------------------------------------------------- */

API int64_t lines_version(void) { return LINES_VERSION; }
API int64_t lines_is_plain(int64_t point) { return is_plain((uint32_t)point); }

API void lines_sha256(const uint8_t *data, int64_t size, int64_t is_portable, uint8_t *hex) {
    sha256_hex(data, size, (int)is_portable, hex);
}
/* Of messages one behind the other, which end at `end`. */
API void lines_blake2b(const uint8_t *data, const int64_t *end, int64_t count, int64_t is_portable, uint8_t *hex) {
    blake2b_hex(data, end, count, (int)is_portable, hex);
}

/* Names of all fields, each in quotation marks and ended by a zero; the places of some of them. */
API Lines *lines_new(const char *names, const char *batch_id, const int32_t *place) {
    Lines *lines = calloc(1, sizeof *lines);
    if (!lines) return NULL;
    int done = append_text(&lines->batch_id, batch_id);
    for (; done && *names && lines->name_count < FIELDS; names += strlen(names) + 1)
        done = append_text(&lines->name[lines->name_count++], names);
    lines->kind_field = place[0];
    lines->id = place[1];
    lines->annotator = place[2];
    lines->moment = place[3];
    lines->prompt = place[4];
    lines->group = place[5];
    if (done && !*names) return lines;
    return NULL;
}

/* A kind by its name in quotation marks, and which numbers must be in order; its place. */
API int64_t lines_kind(Lines *lines, const char *name, const int32_t *scale) {
    if (lines->kind_count == KINDS) return -1;
    Kind *kind = calloc(1, sizeof *kind);
    if (!kind || !append_text(&kind->name, name)) return -1;
    kind->known = kind->required = 1ull << lines->kind_field;
    kind->has_scale = scale[0] >= 0;
    memcpy(kind->scale, scale, sizeof kind->scale);
    lines->kind[lines->kind_count] = kind;
    return lines->kind_count++;
}

typedef struct {
    int32_t place, how, is_required, may_be_empty;
    double least, most, usual;
    const char *standard, *choices, *key_start;
    int64_t key_start_size;
} Asked;

API int64_t lines_field(Lines *lines, int64_t kind_at, const Asked *asked) {
    Kind *kind = lines->kind[kind_at];
    Field *field = &kind->field[asked->place];
    kind->known |= 1ull << asked->place;
    if (asked->is_required) kind->required |= 1ull << asked->place;
    field->how = asked->how;
    field->may_be_empty = asked->may_be_empty;
    field->least = asked->least;
    field->most = asked->most;
    field->usual_place = -1;
    field->usual = asked->usual;
    for (const char *choice = asked->choices; *choice; choice += strlen(choice) + 1)
        if (place_of(&field->choices, (const uint8_t *)choice, strlen(choice)) < 0) return -1;
    return append_text(&field->standard, asked->standard) &&
                   append(&field->key_start, asked->key_start, asked->key_start_size) ? 0 : -1;
}

API int64_t lines_said(Lines *lines, int64_t kind_at, int64_t field) {
    Kind *kind = lines->kind[kind_at];
    if (kind->said_count == SAID) return -1;
    kind->said[kind->said_count++] = (int)field;
    return 0;
}

/* Take the lines of a block; how many there are, or -1 where there is no memory. */
API int64_t lines_take(Lines *lines, const uint8_t *data, int64_t size, int64_t first, int64_t offset) {
    const uint8_t *at = data, *end = data + size;
    int64_t count = 0;
    memset(lines->last, 0, sizeof lines->last); /* what they point at is gone */
    for (int kind = 0; kind < lines->kind_count; kind++)
        for (int field = 0; field < lines->name_count; field++) lines->kind[kind]->field[field].last = NULL;
    lines->left.size = 0;
    for (; at < end; count++) {
        const uint8_t *stop = at;
        uint64_t given = read_line(lines, at, end, &stop);
        Kind *kind = given ? kind_of(lines, given) : NULL;
        if (!given) stop = memchr(at, '\n', end - at);
        if (!stop) stop = end;
        int64_t left[] = {count, at - data, stop - at};
        if (kind ? !add_row(lines, kind, given, first + count, offset + (at - data))
                 : !append(&lines->left, left, sizeof left))
            return -1;
        if (kind && kind->event_end.size >= 8 * AT_ONCE && !add_hashes(lines, kind)) return -1;
        at = stop == end ? end : stop + 1;
    }
    for (int kind = 0; kind < lines->kind_count; kind++)
        if (!add_hashes(lines, lines->kind[kind])) return -1;
    return count;
}

/* The places of texts among those of a column: 0 its texts, 1 its keys, 2 the groups of its kind;
 * -1 where there is no memory. No line may be taken after that. */
API int64_t lines_places(
    Lines *lines, int64_t kind_at, int64_t field_at, int64_t part, const uint8_t *text, const int32_t *end,
    int64_t count, int32_t *place) {
    Kind *kind = lines->kind[kind_at];
    Field *field = &kind->field[field_at];
    Texts *texts = part == 0 ? &field->texts : part == 1 ? &field->keys : &kind->groups;
    for (int64_t i = 0; i < count; i++)
        if ((place[i] = (int32_t)place_of(texts, text + end[i], end[i + 1] - end[i])) < 0) return -1;
    return 0;
}

API int64_t lines_count(const uint8_t *data, int64_t size) {
    int64_t count = 0;
    const uint8_t *end = data + size;
    for (const uint8_t *at = data; (at = memchr(at, '\n', end - at)); at++) count++;
    return count + (size && end[-1] != '\n');
}

API int64_t lines_rows(const Lines *lines, int64_t kind) { return lines->kind[kind]->rows; }

/* Where a part of what was made lies, and its size in bytes; the numbers are those of native.py. */
API void lines_part(const Lines *lines, int64_t kind_at, int64_t field_at, int64_t part, int64_t *where) {
    const Kind *kind = lines->kind[kind_at];
    const Field *field = &kind->field[field_at < 0 ? 0 : field_at];
    const Bytes *parts[] = {
        &lines->left,       &kind->line_no,       &kind->offset,     &kind->uid,        &kind->sha256,
        &kind->record_id,   &kind->id_end,        &kind->groups.text, &kind->groups.end, &kind->group_rows,
        &field->rows,       &field->texts.text,   &field->texts.end, &field->keys.text, &field->keys.end,
        &field->key_rows,
    };
    where[0] = (int64_t)(intptr_t)parts[part]->at;
    where[1] = parts[part]->size;
}

/* Forget all rows, and keep what is known of kinds and fields, and the memory. */
API void lines_clear(Lines *lines) {
    for (int at = 0; at < lines->kind_count; at++) {
        Kind *kind = lines->kind[at];
        for (int i = 0; i < lines->name_count; i++) {
            Field *field = &kind->field[i];
            clear_texts(&field->texts);
            clear_texts(&field->keys);
            field->usual_place = -1;
            field->rows.size = field->key_of_text.size = field->key_rows.size = 0;
        }
        clear_texts(&kind->groups);
        kind->line_no.size = kind->offset.size = kind->uid.size = kind->sha256.size = 0;
        kind->record_id.size = kind->id_end.size = kind->group_rows.size = kind->rows = 0;
        kind->event.size = kind->event_end.size = kind->gap.size = kind->place.size = kind->place_end.size = 0;
    }
}

API void lines_free(Lines *lines) {
    for (int at = 0; at < lines->kind_count; at++) {
        Kind *kind = lines->kind[at];
        for (int i = 0; i < lines->name_count; i++) {
            Field *field = &kind->field[i];
            Texts *every[] = {&field->choices, &field->texts, &field->keys};
            for (int j = 0; j < 3; j++) free_texts(every[j]);
            Bytes *others[] = {&field->key_start, &field->standard, &field->rows, &field->key_of_text, &field->key_rows};
            for (int j = 0; j < 5; j++) free(others[j]->at);
        }
        Bytes *others[] = {&kind->name, &kind->line_no, &kind->offset, &kind->uid, &kind->sha256, &kind->record_id, &kind->id_end,
                           &kind->group_rows, &kind->event, &kind->event_end, &kind->gap, &kind->place, &kind->place_end};
        for (int j = 0; j < 13; j++) free(others[j]->at);
        free_texts(&kind->groups);
        free(kind);
    }
    for (int i = 0; i < lines->name_count; i++) free(lines->name[i].at);
    Bytes *others[] = {&lines->batch_id, &lines->plain, &lines->normal, &lines->normal_end, &lines->hex, &lines->object, &lines->left};
    for (int j = 0; j < 7; j++) free(others[j]->at);
    free(lines);
}
