/* worker.c: a worker of bpttcheck, one file on the standard library of C11; docs/protocol.md says what it speaks.

       cc -O2 -o worker worker.c -lm

   It serves the Elman cell with four activations, without or with a linear readout, for a cotangent or a squared
   error, in float64 and float32. To serve a kernel of your own, replace "the gradient", and say in SUPPORTS what it
   does. Exit status: 0 at the end of the requests, 1 where an answer cannot be written, 2 at a frame that is none. */

#ifndef REAL /* the gradient, further down, is compiled twice: this file includes itself with REAL double and float */

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays travel in little-endian order: reverse the bytes of every entry where they are copied"
#endif

static const char SUPPORTS[] =
    "{\"cells\": [\"elman\"], \"activations\": [\"tanh\", \"sigmoid\", \"relu\", \"identity\"],"
    " \"readouts\": [\"none\", \"linear\"], \"losses\": [\"cotangent\", \"squared_error\"],"
    " \"reductions\": [\"sum\", \"mean\", \"tokens\"], \"truncations\": [\"full\", \"window\", \"chunk\", \"periodic\"],"
    " \"dtypes\": [\"float64\", \"float32\"], \"lengths\": true, \"final_cotangents\": true, \"h0_none\": true,"
    " \"deterministic\": true}";

#define MOST_FRAME ((size_t)1 << 30)  /* bytes of a request; the protocol's limit */
#define MOST_MEMORY ((size_t)1 << 31) /* bytes that one request may have besides, its answer among them */
#define MOST_NODES 4096               /* values in one JSON text */
#define MOST_DEPTH 16
#define MOST_AXES 8

enum { TANH, SIGMOID, RELU, IDENTITY };                                               /* activations */
enum { W_XH, W_HH, B_H, X, H0, W_HY, B_Y, G, G_H_FINAL, TARGET, INPUTS };             /* arrays of a request */
enum { LOSS, H_, O, DW_XH, DW_HH, DB_H, DX, DH0, DW_HY, DB_Y, OUTPUTS };              /* arrays of its answer */
static const char *const OUTPUT_NAMES[OUTPUTS] = {"loss", "h",  "o",   "dW_xh", "dW_hh",
                                                  "db_h", "dx", "dh0", "dW_hy", "db_y"};

/* A problem as the gradient sees it. Arrays are in C order; those that a problem lacks are NULL. */
struct problem {
    size_t T, B, D, H, K;
    int activation;
    bool linear, squared_error;              /* the readout, the loss */
    double scale;                            /* of the squared error: 1 or 1/2 */
    bool time_mean, batch_mean, tokens;      /* reductions */
    size_t block, depth;                     /* truncation: see (7) */
    bool within;
    const int64_t *lengths;                  /* (B,), or NULL: all T */
    const void *in[INPUTS];
    void *out[OUTPUTS];                      /* zeros at first */
    void *carry, *delta, *d_o;               /* work: (H,), (H,), (K,) */
};

/* ---- the gradient ------------------------------------------------------------------------------------------------

   For each row of the batch, with t from 1 to its length (a row keeps its state afterwards):

       h_t = phi(x_t W_xh + h_{t-1} W_hh + b_h)        o_t = h_t W_hy + b_y, or h_t                            (1)
       L_t = <g_t, o_t>            do_t = g_t                        cotangent                                 (2)
       L_t = scale |o_t - y_t|^2   do_t = 2 scale (o_t - y_t)        squared error                             (3)
       L   = sum of L_t / n        n: 1, the length, B, both, or the sum of lengths                            (4)
             + <g_h_final, h_length>
       delta_t = (carry + do_t W_hy^T) phi'(a_t)       carry = delta_{t+1} W_hh^T, g_h_final at first          (5)
       dW_xh += x_t^T delta_t   dW_hh += h_{t-1}^T delta_t   db_h += delta_t   dx_t += delta_t W_xh^T          (6)

   Truncation cuts the losses into blocks; the losses of a block, first < t <= end, go back to the steps s > bottom: (7)

       full: one block of T       window(k): blocks of 1, bottom = end - k
       chunk(k): blocks of k, bottom = first           periodic(k1,k2): blocks of k1, bottom = end - k2             */

#define REAL double
#define EXP exp
#define TANH_OF tanh
#define ELMAN elman_float64
#include "worker.c" /* this file's own name */
#undef REAL
#undef EXP
#undef TANH_OF
#undef ELMAN
#define REAL float
#define EXP expf
#define TANH_OF tanhf
#define ELMAN elman_float32
#include "worker.c"
#undef REAL
#else

static void ELMAN(const struct problem *p) {
    const size_t T = p->T, B = p->B, D = p->D, H = p->H, K = p->K;
    REAL *loss = p->out[LOSS],                                                      /* () */
        *h = p->out[H_], *o = p->out[O],                                            /* (T,B,H), (T,B,K) */
        *dW_xh = p->out[DW_XH], *dW_hh = p->out[DW_HH], *db_h = p->out[DB_H],       /* (D,H), (H,H), (H,) */
        *dx = p->out[DX], *dh0 = p->out[DH0],                                       /* (T,B,D), (B,H) */
        *dW_hy = p->out[DW_HY], *db_y = p->out[DB_Y],                               /* (H,K), (K,) */
        *carry = p->carry, *delta = p->delta, *d_o = p->d_o;                        /* (H,), (H,), (K,) */
    const REAL *W_xh = p->in[W_XH], *W_hh = p->in[W_HH], *b_h = p->in[B_H],         /* (D,H), (H,H), (H,) */
        *x = p->in[X], *h0 = p->in[H0],                                             /* (T,B,D), (B,H) */
        *W_hy = p->in[W_HY], *b_y = p->in[B_Y],                                     /* (H,K), (K,) */
        *g = p->in[G], *g_h_final = p->in[G_H_FINAL], *y = p->in[TARGET];           /* (T,B,K), (B,H), (T,B,K) */
    const REAL scale = (REAL)p->scale;
    size_t total = 0;
    for (size_t b = 0; b < B; b++) total += p->lengths ? (size_t)p->lengths[b] : T;

    for (size_t b = 0; b < B; b++) {
        const size_t length = p->lengths ? (size_t)p->lengths[b] : T;
        const REAL *h_prev = h0 + b * H;
        for (size_t t = 0; t < T; t++) { /* (1) */
            REAL *h_t = h + (t * B + b) * H, *o_t = o + (t * B + b) * K;
            const REAL *x_t = x + (t * B + b) * D;
            for (size_t j = 0; j < H; j++) {
                REAL a = b_h[j];
                for (size_t d = 0; d < D; d++) a += x_t[d] * W_xh[d * H + j];
                for (size_t i = 0; i < H; i++) a += h_prev[i] * W_hh[i * H + j];
                const REAL e = EXP(a < 0 ? a : -a); /* never overflows */
                if (t >= length) h_t[j] = h_prev[j];
                else if (p->activation == TANH) h_t[j] = TANH_OF(a);
                else if (p->activation == SIGMOID) h_t[j] = (a < 0 ? e : 1) / (1 + e);
                else if (p->activation == RELU) h_t[j] = a > 0 ? a : 0;
                else h_t[j] = a;
            }
            for (size_t k = 0; k < K; k++) {
                o_t[k] = p->linear ? b_y[k] : h_t[k];
                for (size_t j = 0; p->linear && j < H; j++) o_t[k] += h_t[j] * W_hy[j * K + k];
            }
            h_prev = h_t;
        }

        size_t n = p->time_mean ? length : 1; /* (4) */
        if (p->batch_mean) n *= B;
        if (p->tokens) n = total;
        REAL row = 0;
        for (size_t first = 0; first < length; first += p->block) { /* (7) */
            const size_t end = length - first < p->block ? length : first + p->block;
            const size_t bottom = p->within ? first : end > p->depth ? end - p->depth : 0;
            for (size_t j = 0; j < H; j++) carry[j] = g_h_final && end == length ? g_h_final[b * H + j] : 0;
            for (size_t t = end; t-- > bottom;) { /* step t + 1, whose arrays are at t */
                const REAL *h_t = h + (t * B + b) * H, *x_t = x + (t * B + b) * D;
                const REAL *h_before = t ? h + ((t - 1) * B + b) * H : h0 + b * H;
                for (size_t k = 0; t >= first && k < K; k++) {
                    const size_t at = (t * B + b) * K + k;
                    const REAL r = y ? o[at] - y[at] : 0;
                    row += p->squared_error ? scale * r * r : g[at] * o[at]; /* (2), (3) */
                    d_o[k] = p->squared_error ? 2 * scale * r / (REAL)n : g[at];
                    if (p->linear) db_y[k] += d_o[k];
                    for (size_t j = 0; p->linear && j < H; j++) dW_hy[j * K + k] += h_t[j] * d_o[k];
                }
                for (size_t j = 0; j < H; j++) { /* (5) */
                    REAL dh = carry[j];
                    if (t >= first && !p->linear) dh += d_o[j];
                    for (size_t k = 0; t >= first && p->linear && k < K; k++) dh += d_o[k] * W_hy[j * K + k];
                    const REAL h_j = h_t[j];
                    if (p->activation == TANH) delta[j] = dh * (1 - h_j * h_j);
                    else if (p->activation == SIGMOID) delta[j] = dh * (h_j * (1 - h_j));
                    else if (p->activation == RELU) delta[j] = h_j > 0 ? dh : 0;
                    else delta[j] = dh;
                }
                for (size_t j = 0; j < H; j++) { /* (6) */
                    for (size_t d = 0; d < D; d++) dW_xh[d * H + j] += x_t[d] * delta[j];
                    for (size_t i = 0; i < H; i++) dW_hh[i * H + j] += h_before[i] * delta[j];
                    for (size_t d = 0; d < D; d++) dx[(t * B + b) * D + d] += W_xh[d * H + j] * delta[j];
                    db_h[j] += delta[j];
                }
                for (size_t i = 0; i < H; i++) {
                    carry[i] = 0;
                    for (size_t j = 0; j < H; j++) carry[i] += W_hh[i * H + j] * delta[j];
                }
            }
            for (size_t j = 0; bottom == 0 && j < H; j++) dh0[b * H + j] += carry[j];
        }
        *loss += row / (REAL)(n ? n : 1);
        for (size_t j = 0; g_h_final && j < H; j++) {
            *loss += g_h_final[b * H + j] * h_prev[j];
            if (length == 0) dh0[b * H + j] = g_h_final[b * H + j];
        }
    }
}

#endif
#ifndef REAL

/* ---- memory: what a request needs, up to a limit, given back at once ---------------------------------------------- */

struct piece {
    struct piece *next;
    max_align_t data[];
};

struct pool {
    struct piece *pieces;
    size_t used;
};

/* `count` zeros of `width` bytes each, or NULL: there are none, or they would be more than MOST_MEMORY. */
static void *take(struct pool *pool, size_t count, size_t width) {
    if (count > (MOST_MEMORY - pool->used) / width) return NULL;
    struct piece *piece = calloc(1, sizeof *piece + count * width);
    if (!piece) return NULL;
    piece->next = pool->pieces;
    pool->pieces = piece;
    pool->used += count * width;
    return piece->data;
}

static void give_back(struct pool *pool) {
    while (pool->pieces) {
        struct piece *piece = pool->pieces;
        pool->pieces = piece->next;
        free(piece);
    }
    pool->used = 0;
}

/* ---- JSON: RFC 8259, read into nodes; texts are unescaped where they stand ---------------------------------------- */

enum kind { OBJECT, LIST, TEXT, NUMBER, WORD }; /* a word: true, false, null */

struct node {
    enum kind kind;
    const char *name, *text;      /* of a member; of a text, number or word */
    size_t name_size, size;
    const struct node *child, *next;
};

struct json {
    char *at, *end;
    struct node *nodes;
    size_t used;
};

static bool ahead(const struct json *j, const char *characters) {
    return j->at < j->end && *j->at && strchr(characters, *j->at);
}

static void skip_space(struct json *j) {
    while (ahead(j, " \t\n\r")) j->at++;
}

static bool skip_digits(struct json *j) {
    const char *start = j->at;
    while (ahead(j, "0123456789")) j->at++;
    return j->at > start;
}

static bool read_hex(struct json *j, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        if (!ahead(j, "0123456789abcdefABCDEF")) return false;
        const char c = *j->at++;
        *code = *code * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return true;
}

/* The character behind \u as UTF-8; never longer than its escape. */
static bool read_code(struct json *j, char **to) {
    uint32_t code, low;
    if (!read_hex(j, &code)) return false;
    if (code >= 0xD800 && code < 0xE000) { /* one half of a pair */
        if (code >= 0xDC00 || j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u') return false;
        j->at += 2;
        if (!read_hex(j, &low) || low < 0xDC00 || low >= 0xE000) return false;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char marks[] = {0, 0xC0, 0xE0, 0xF0};
    *(*to)++ = (char)(marks[more] | code >> (6 * more));
    for (int i = more; i-- > 0;) *(*to)++ = (char)(0x80 | (code >> (6 * i) & 0x3F));
    return true;
}

static bool read_text(struct json *j, const char **text, size_t *size) {
    if (!ahead(j, "\"")) return false;
    char *to = ++j->at;
    *text = to;
    while (j->at < j->end && *j->at != '"') {
        if ((unsigned char)*j->at < 0x20) return false;
        if (*j->at != '\\') {
            *to++ = *j->at++;
            continue;
        }
        j->at++;
        if (!ahead(j, "\"\\/bfnrtu")) return false;
        const char c = *j->at++;
        if (c == 'u') {
            if (!read_code(j, &to)) return false;
        } else {
            *to++ = c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
        }
    }
    *size = (size_t)(to - *text);
    return j->at < j->end && *j->at++ == '"';
}

static bool read_number(struct json *j, struct node *node) {
    node->kind = NUMBER;
    node->text = j->at;
    if (ahead(j, "-")) j->at++;
    if (ahead(j, "0")) j->at++;
    else if (!skip_digits(j)) return false;
    if (ahead(j, ".") && (j->at++, !skip_digits(j))) return false;
    if (ahead(j, "eE")) {
        j->at++;
        if (ahead(j, "+-")) j->at++;
        if (!skip_digits(j)) return false;
    }
    node->size = (size_t)(j->at - node->text);
    return true;
}

static bool read_word(struct json *j, struct node *node) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        const size_t size = strlen(words[i]);
        if ((size_t)(j->end - j->at) < size || memcmp(j->at, words[i], size) != 0) continue;
        *node = (struct node){.kind = WORD, .text = words[i], .size = size, .name = node->name,
                              .name_size = node->name_size};
        j->at += size;
        return true;
    }
    return false;
}

static bool read_value(struct json *j, struct node *node, int depth);

/* The members of an object or the entries of a list, behind its bracket. */
static bool read_children(struct json *j, struct node *node, int depth) {
    const bool object = node->kind == OBJECT;
    const struct node **link = &node->child;
    const char *close = object ? "}" : "]";
    skip_space(j);
    if (ahead(j, close)) return j->at++, true;
    for (;;) {
        if (j->used == MOST_NODES) return false;
        struct node *child = &j->nodes[j->used++];
        *child = (struct node){0};
        skip_space(j);
        if (object) {
            if (!read_text(j, &child->name, &child->name_size)) return false;
            skip_space(j);
            if (!ahead(j, ":")) return false;
            j->at++;
        }
        if (!read_value(j, child, depth + 1)) return false;
        *link = child;
        link = &child->next;
        if (ahead(j, close)) return j->at++, true;
        if (!ahead(j, ",")) return false;
        j->at++;
    }
}

static bool read_value(struct json *j, struct node *node, int depth) {
    if (depth > MOST_DEPTH) return false;
    skip_space(j);
    bool right;
    if (ahead(j, "{[")) {
        node->kind = *j->at++ == '{' ? OBJECT : LIST;
        right = read_children(j, node, depth);
    } else if (ahead(j, "\"")) {
        node->kind = TEXT;
        right = read_text(j, &node->text, &node->size);
    } else if (ahead(j, "-0123456789")) {
        right = read_number(j, node);
    } else {
        right = read_word(j, node);
    }
    skip_space(j);
    return right;
}

/* The object that a text holds, which is changed by reading; or NULL. */
static const struct node *read_json(struct pool *pool, char *text, size_t size) {
    struct json j = {.at = text, .end = text + size, .nodes = take(pool, MOST_NODES, sizeof(struct node)), .used = 1};
    if (!j.nodes || !read_value(&j, j.nodes, 0) || j.at != j.end || j.nodes->kind != OBJECT) return NULL;
    return j.nodes;
}

/* A member of an object, the first of its name; NULL where there is none. */
static const struct node *member(const struct node *object, const char *name) {
    if (!object || object->kind != OBJECT) return NULL;
    for (const struct node *one = object->child; one; one = one->next) {
        if (one->name_size == strlen(name) && memcmp(one->name, name, one->name_size) == 0) return one;
    }
    return NULL;
}

/* Whether a member is this text. */
static bool says(const struct node *object, const char *name, const char *text) {
    const struct node *one = member(object, name);
    return one && one->kind == TEXT && one->size == strlen(text) && memcmp(one->text, text, one->size) == 0;
}

/* A whole number from 0 to MOST_FRAME. */
static bool whole(const struct node *node, size_t *value) {
    if (!node || node->kind != NUMBER || node->size > 10) return false;
    *value = 0;
    for (size_t i = 0; i < node->size; i++) {
        if (node->text[i] < '0' || node->text[i] > '9') return false;
        *value = *value * 10 + (size_t)(node->text[i] - '0');
    }
    return *value <= MOST_FRAME;
}

/* ---- frames: a length, a header of JSON, and the arrays' bytes ---------------------------------------------------- */

struct frame {
    const struct node *header, *message;
    const char *data;
    size_t size;
};

struct array {
    const struct node *dtype;
    size_t width, axes, shape[MOST_AXES], count;
    const char *bytes;
};

/* An array of the header: its place is checked against the data. */
static bool read_array(const struct frame *frame, const struct node *entry, struct array *array) {
    static const struct {
        const char *name;
        size_t width;
    } widths[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"I64", 8}};
    const struct node *shape = member(entry, "shape"), *offsets = member(entry, "data_offsets");
    *array = (struct array){.dtype = entry, .count = 1};
    for (int i = 0; i < 4; i++) {
        if (says(entry, "dtype", widths[i].name)) array->width = widths[i].width;
    }
    if (!array->width || !shape || shape->kind != LIST || !offsets || offsets->kind != LIST) return false;
    for (const struct node *axis = shape->child; axis; axis = axis->next) {
        size_t n;
        if (array->axes == MOST_AXES || !whole(axis, &n)) return false;
        array->shape[array->axes++] = n;
        if (n && array->count > MOST_FRAME / n) return false;
        array->count *= n;
    }
    size_t begin, end;
    if (!offsets->child || !offsets->child->next || offsets->child->next->next) return false;
    if (!whole(offsets->child, &begin) || !whole(offsets->child->next, &end)) return false;
    if (begin > end || end > frame->size || end - begin != array->count * array->width) return false;
    array->bytes = frame->data + begin;
    return true;
}

static uint64_t little_endian(const unsigned char bytes[8]) {
    uint64_t value = 0;
    for (int i = 8; i-- > 0;) value = value << 8 | bytes[i];
    return value;
}

/* Takes a frame's body apart; NULL, or what is wrong with it. */
static const char *decode(struct frame *frame, struct pool *pool, char *body, size_t size) {
    if (size < 8) return "it ends within the length of its header";
    const uint64_t text = little_endian((const unsigned char *)body);
    if (text > size - 8) return "its header is longer than the frame";
    frame->data = body + 8 + text;
    frame->size = size - 8 - (size_t)text;
    frame->header = read_json(pool, body + 8, (size_t)text);
    if (!frame->header) return "its header is no JSON object of moderate size";
    const struct node *message = member(member(frame->header, "__metadata__"), "bpttcheck");
    if (!message || message->kind != TEXT) return "it has no message";
    char *copy = take(pool, message->size + 1, 1);
    if (!copy) return "there is no memory for its message";
    memcpy(copy, message->text, message->size);
    frame->message = read_json(pool, copy, message->size);
    if (!frame->message) return "its message is no JSON object of moderate size";
    for (const struct node *one = frame->header->child; one; one = one->next) {
        struct array array;
        if (one->name_size == 12 && memcmp(one->name, "__metadata__", 12) == 0) continue;
        if (!read_array(frame, one, &array)) return "an array does not fill its place";
    }
    return NULL;
}

/* The next frame's body, which the caller frees, or NULL: `why` is what is wrong, or NULL at the end of the stream. */
static char *read_frame(FILE *in, size_t *size, const char **why) {
    unsigned char head[8];
    const size_t got = fread(head, 1, sizeof head, in);
    *why = got == 0 ? NULL : "it ends within its length";
    if (got < sizeof head) return NULL;
    const uint64_t length = little_endian(head);
    *why = "it is longer than 2^30 bytes";
    if (length > MOST_FRAME) return NULL;
    char *body = NULL;
    size_t room = 0;
    for (*size = 0; *size < length || !body;) { /* a length is believed only as its bytes arrive */
        const size_t more = 2 * room < 1 << 16 ? 1 << 16 : 2 * room;
        char *grown = realloc(body, room = more < length + 1 ? more : (size_t)length + 1);
        *why = "there is no memory for it";
        if (!grown) return free(body), NULL;
        body = grown;
        const size_t want = (room <= length ? room : (size_t)length) - *size;
        const size_t part = fread(body + *size, 1, want, in);
        *size += part;
        *why = "it ends before its length says";
        if (part < want) return free(body), NULL;
    }
    *why = NULL;
    return body;
}

/* What an answer is made of; its arrays, of `width` bytes an entry, follow it. */
struct reply {
    const char *type;     /* started, answer, unsupported, error, released */
    const char *seq;      /* a number as it came */
    int seq_size;
    const char *supports; /* of started */
    char reason[200];     /* of unsupported and error; printable, no quotes */
    size_t width;
    size_t axes[OUTPUTS], shape[OUTPUTS][3];
    const void *data[OUTPUTS]; /* NULL: not in the answer */
};

struct text {
    char at[8192];
    size_t used;
};

static void append(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int more = vsnprintf(text->at + text->used, sizeof text->at - text->used, format, arguments);
    va_end(arguments);
    if (more < 0 || (size_t)more >= sizeof text->at - text->used) abort(); /* no answer is so long */
    text->used += (size_t)more;
}

static bool write_frame(FILE *out, const struct reply *reply) {
    struct text message = {.used = 0}, header = {.used = 0};
    append(&message, "{\"type\": \"%s\", \"seq\": %.*s", reply->type, reply->seq_size, reply->seq);
    if (reply->supports) append(&message, ", \"version\": 1, \"supports\": %s", reply->supports);
    if (reply->reason[0]) append(&message, ", \"reason\": \"%s\"", reply->reason);
    append(&message, "}");
    append(&header, "{\"__metadata__\": {\"bpttcheck\": \"");
    for (size_t i = 0; i < message.used; i++) append(&header, message.at[i] == '"' ? "\\\"" : "%c", message.at[i]);
    append(&header, "\"}");
    size_t offset = 0, bytes[OUTPUTS] = {0};
    for (int i = 0; i < OUTPUTS; i++) {
        if (!reply->data[i]) continue;
        append(&header, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [", OUTPUT_NAMES[i], reply->width == 8 ? "F64" : "F32");
        bytes[i] = reply->width;
        for (size_t k = 0; k < reply->axes[i]; k++) {
            append(&header, "%s%zu", k ? ", " : "", reply->shape[i][k]);
            bytes[i] *= reply->shape[i][k];
        }
        append(&header, "], \"data_offsets\": [%zu, %zu]}", offset, offset + bytes[i]);
        offset += bytes[i];
    }
    append(&header, "}");
    while (header.used % 8) append(&header, " ");
    const uint64_t lengths[2] = {8 + header.used + offset, header.used};
    bool sent = fwrite(lengths, 8, 2, out) == 2 && fwrite(header.at, 1, header.used, out) == header.used;
    for (int i = 0; i < OUTPUTS; i++) {
        if (reply->data[i]) sent = sent && fwrite(reply->data[i], 1, bytes[i], out) == bytes[i];
    }
    return sent && fflush(out) == 0;
}

/* ---- a request for gradients -------------------------------------------------------------------------------------- */

/* Fill in a reply that is no answer; false, so that a caller returns it. */
static bool refuse(struct reply *reply, const char *type, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reply->reason, sizeof reply->reason, format, arguments);
    va_end(arguments);
    reply->type = type;
    return false;
}

/* The index of the name that a member has, or -1. */
static int choice(const struct node *object, const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++) {
        if (says(object, name, names[i])) return i;
    }
    return -1;
}

static bool read_reductions(const struct node *loss, struct problem *p) {
    static const char *const names[] = {"sum", "mean", "tokens"};
    const int time = choice(loss, "time_reduction", names, 3), batch = choice(loss, "batch_reduction", names, 3);
    p->time_mean = time == 1;
    p->batch_mean = batch == 1;
    p->tokens = time == 2;
    return time >= 0 && batch >= 0 && (time == 2) == (batch == 2);
}

static bool read_scale(const struct node *loss, struct problem *p) {
    const struct node *scale = member(loss, "scale");
    char digits[32] = "";
    if (!p->squared_error) return true;
    if (!scale || scale->kind != NUMBER || scale->size >= sizeof digits) return false;
    memcpy(digits, scale->text, scale->size);
    p->scale = strtod(digits, NULL);
    return true;
}

static bool read_truncation(const struct node *truncation, struct problem *p) {
    static const char *const names[] = {"full", "window", "chunk", "periodic"};
    const int kind = choice(truncation, "kind", names, 4);
    const char *block = kind == 2 ? "k" : "k1", *depth = kind == 1 ? "k" : "k2";
    p->within = kind == 0 || kind == 2;
    p->block = kind == 1 ? 1 : p->T;
    if ((kind == 2 || kind == 3) && !whole(member(truncation, block), &p->block)) return false;
    if ((kind == 1 || kind == 3) && !whole(member(truncation, depth), &p->depth)) return false;
    return kind >= 0 && p->block >= 1 && (p->within || p->depth >= p->block);
}

/* A request's array, copied to where it is aligned. An optional one may be absent: NULL. */
static bool copy_array(const struct frame *frame, struct pool *pool, struct reply *reply, const char *name,
                       const char *dtype, bool optional, size_t axes, const size_t *shape, const void **copied) {
    const struct node *entry = member(frame->header, name);
    struct array array;
    *copied = NULL;
    if (!entry && optional) return true;
    if (!entry) return refuse(reply, "error", "%s: is not there", name);
    if (!read_array(frame, entry, &array) || !says(array.dtype, "dtype", dtype) || array.axes != axes ||
        memcmp(array.shape, shape, axes * sizeof *shape) != 0) {
        return refuse(reply, "error", "%s: has another dtype or shape than the problem", name);
    }
    void *copy = take(pool, array.count, array.width);
    if (!copy) return refuse(reply, "error", "%s: there is no memory for it", name);
    memcpy(copy, array.bytes, array.count * array.width);
    *copied = copy;
    return true;
}

/* The sizes of a problem, from the shapes of x, W_hh and W_hy. */
static bool read_sizes(const struct frame *frame, struct problem *p) {
    struct array x, W_hh, W_hy = {.axes = 0};
    const struct node *one = member(frame->header, "x"), *two = member(frame->header, "params.W_hh");
    const struct node *three = member(frame->header, "params.W_hy");
    if (!one || !read_array(frame, one, &x) || x.axes != 3) return false;
    if (!two || !read_array(frame, two, &W_hh) || W_hh.axes != 2) return false;
    if (p->linear && (!three || !read_array(frame, three, &W_hy) || W_hy.axes != 2)) return false;
    p->T = x.shape[0], p->B = x.shape[1], p->D = x.shape[2], p->H = W_hh.shape[0];
    p->K = p->linear ? W_hy.shape[1] : p->H;
    return p->T && p->B && p->D && p->H && p->K;
}

/* Reads a problem, and makes room for its answer; false where the reply is none. */
static bool read_problem(const struct frame *frame, struct pool *pool, struct problem *p, struct reply *reply) {
    static const char *const activations[] = {"tanh", "sigmoid", "relu", "identity"};
    const struct node *said = member(frame->message, "problem"), *loss = member(said, "loss");
    if (!said || !loss) return refuse(reply, "error", "problem: is not there, or has no loss");
    p->activation = choice(said, "activation", activations, 4);
    p->linear = says(said, "readout", "linear");
    p->squared_error = says(loss, "kind", "squared_error");
    reply->width = says(said, "dtype", "float64") ? 8 : says(said, "dtype", "float32") ? 4 : 0;
    if (!says(said, "cell", "elman")) return refuse(reply, "unsupported", "a cell other than elman");
    if (p->activation < 0) return refuse(reply, "unsupported", "an activation that it does not have");
    if (!p->linear && !says(said, "readout", "none")) return refuse(reply, "unsupported", "a readout of another kind");
    if (!p->squared_error && !says(loss, "kind", "cotangent")) return refuse(reply, "unsupported", "a loss of another kind");
    if (!reply->width) return refuse(reply, "unsupported", "a dtype other than float64 and float32");
    if (!read_reductions(loss, p)) return refuse(reply, "unsupported", "reductions of another kind");
    if (!read_scale(loss, p)) return refuse(reply, "error", "loss.scale: is no number");
    if (!read_sizes(frame, p)) return refuse(reply, "error", "x, W_hh or W_hy: is not there, or has no sizes from 1");
    if (!read_truncation(member(said, "truncation"), p)) return refuse(reply, "unsupported", "truncation of another kind");

    const size_t T = p->T, B = p->B, D = p->D, H = p->H, K = p->K;
    const bool linear = p->linear, squared = p->squared_error;
    const struct {
        int at;
        const char *name;
        bool there, optional;
        size_t axes, shape[3];
    } inputs[INPUTS] = {
        {W_XH, "params.W_xh", true, false, 2, {D, H}},      {W_HH, "params.W_hh", true, false, 2, {H, H}},
        {B_H, "params.b_h", true, false, 1, {H}},           {X, "x", true, false, 3, {T, B, D}},
        {H0, "h0", true, true, 2, {B, H}},                  {W_HY, "params.W_hy", linear, false, 2, {H, K}},
        {B_Y, "params.b_y", linear, false, 1, {K}},         {G, "loss.g", !squared, false, 3, {T, B, K}},
        {G_H_FINAL, "loss.g_h_final", !squared, true, 2, {B, H}}, {TARGET, "loss.target", squared, false, 3, {T, B, K}},
    };
    const char *dtype = reply->width == 8 ? "F64" : "F32";
    for (int i = 0; i < INPUTS; i++) {
        if (inputs[i].there && !copy_array(frame, pool, reply, inputs[i].name, dtype, inputs[i].optional, inputs[i].axes,
                                           inputs[i].shape, &p->in[inputs[i].at])) return false;
    }
    const void *lengths;
    if (!copy_array(frame, pool, reply, "lengths", "I64", true, 1, &B, &lengths)) return false;
    p->lengths = lengths;
    for (size_t b = 0; p->lengths && b < B; b++) {
        if (p->lengths[b] < 0 || (uint64_t)p->lengths[b] > T) return refuse(reply, "error", "lengths: not from 0 to T");
    }

    const struct {
        int at;
        size_t axes, shape[3];
    } outputs[OUTPUTS] = {
        {LOSS, 0, {1, 1, 1}},   {H_, 3, {T, B, H}},     {O, 3, {T, B, K}},  {DW_XH, 2, {D, H, 1}}, {DW_HH, 2, {H, H, 1}},
        {DB_H, 1, {H, 1, 1}},   {DX, 3, {T, B, D}},     {DH0, 2, {B, H, 1}}, {DW_HY, 2, {H, K, 1}}, {DB_Y, 1, {K, 1, 1}},
    };
    bool room = true;
    for (int i = 0; i < OUTPUTS; i++) {
        const int at = outputs[i].at;
        const size_t *n = outputs[i].shape;
        if (!linear && (at == DW_HY || at == DB_Y)) continue;
        if (n[0] > MOST_MEMORY / n[1] || n[0] * n[1] > MOST_MEMORY / n[2]) {
            return refuse(reply, "error", "%s: would be too large", OUTPUT_NAMES[at]);
        }
        reply->axes[at] = outputs[i].axes;
        memcpy(reply->shape[at], n, sizeof outputs[i].shape);
        p->out[at] = take(pool, n[0] * n[1] * n[2], reply->width);
        room = room && p->out[at];
    }
    if (!p->in[H0]) p->in[H0] = take(pool, B * H, reply->width);
    p->carry = take(pool, H, reply->width), p->delta = take(pool, H, reply->width), p->d_o = take(pool, K, reply->width);
    if (!room || !p->in[H0] || !p->carry || !p->delta || !p->d_o) return refuse(reply, "error", "there is no memory for the answer");
    return true;
}

/* ---- serving ------------------------------------------------------------------------------------------------------ */

/* Answers one frame; false where the answer cannot be written. `stop` is set by the message of that name. */
static bool answer(const struct frame *frame, struct pool *pool, FILE *out, bool *stop) {
    const struct node *message = frame->message, *seq = member(message, "seq");
    struct reply reply = {.type = "answer", .seq = "null", .seq_size = 4};
    if (seq && seq->kind == NUMBER && seq->size <= 20) reply.seq = seq->text, reply.seq_size = (int)seq->size;
    *stop = says(message, "type", "stop");
    if (*stop) return true;
    if (says(message, "type", "start")) {
        reply.type = "started";
        reply.supports = SUPPORTS;
    } else if (says(message, "type", "gradients")) {
        struct problem p = {.T = 0};
        if (read_problem(frame, pool, &p, &reply)) {
            (reply.width == 8 ? elman_float64 : elman_float32)(&p);
            memcpy(reply.data, p.out, sizeof p.out);
        }
    } else if (says(message, "type", "release")) {
        reply.type = "released";
    } else {
        refuse(&reply, "error", "a request of another type than start, gradients, release or stop");
    }
    return write_frame(out, &reply);
}

/* Answers requests until stop or the end of the stream: the exit status. */
static int serve(FILE *in, FILE *out) {
    for (;;) {
        size_t size;
        const char *why;
        char *body = read_frame(in, &size, &why);
        struct pool pool = {.used = 0};
        struct frame frame;
        bool stop = false, written = true;
        if (body) why = decode(&frame, &pool, body, size);
        if (body && !why) written = answer(&frame, &pool, out, &stop);
        give_back(&pool);
        free(body);
        if (why) return fprintf(stderr, "worker: a frame that cannot be read: %s\n", why), 2;
        if (!written) return fprintf(stderr, "worker: an answer cannot be written\n"), 1;
        if (!body || stop) return 0;
    }
}

int main(void) { return serve(stdin, stdout); }

#endif
