/* consume.c: an Elman network in C, judged by bpttcheck's test vectors; one file on the standard library of C11.

       bpttcheck vectors export --out vectors
       cc -O2 -o consume consume.c -lm && ./consume vectors [answers.json]

   It answers every vector of the cell elman with a cotangent or a squared error, in float64 and float32, says which
   entries are out of their budget, and writes its answers for `bpttcheck vectors verify`. Exit status: 0 all within
   budget, 1 some entry is not, 2 no corpus. To judge code of your own, replace "the gradient". docs/vectors.md has the
   formats. Memory is taken for what is read and given back at the end of the program. */

#ifndef REAL /* the gradient, further down, is compiled twice: this file includes itself with REAL double and float */

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays are stored in little-endian order: reverse the bytes of every entry where they are read"
#endif

#define MOST_FILE ((size_t)64 << 20)
#define MOST_ENTRIES ((size_t)1 << 24) /* of an array */

enum { TANH, SIGMOID, RELU, IDENTITY };                                               /* activations */
enum { W_XH, W_HH, B_H, X, H0, W_HY, B_Y, G, G_H_FINAL, TARGET, INPUTS };             /* arrays of a problem */
enum { LOSS, H_, O, DW_XH, DW_HH, DB_H, DX, DH0, DW_HY, DB_Y, OUTPUTS };              /* arrays of its answer */
static const char *const INPUT_NAMES[INPUTS] = {"params.W_xh", "params.W_hh", "params.b_h", "x", "h0",
                                                "params.W_hy", "params.b_y", "loss.g", "loss.g_h_final", "loss.target"};
static const char *const OUTPUT_NAMES[OUTPUTS] = {"loss", "h",  "o",   "dW_xh", "dW_hh",
                                                  "db_h", "dx", "dh0", "dW_hy", "db_y"};

/* A problem as the gradient sees it. Arrays are in C order and in the dtype asked for. */
struct problem {
    size_t T, B, D, H, K;
    int activation;
    bool linear, squared_error;              /* the readout, the loss */
    double scale;                            /* of the squared error: 1 or 1/2 */
    bool time_mean, batch_mean, tokens;      /* reductions */
    size_t block, depth;                     /* truncation: see (7) */
    bool within;
    const int64_t *lengths;                  /* (B,), or NULL: all T */
    void *in[INPUTS];                        /* NULL: not there */
    void *out[OUTPUTS];                      /* zeros at first */
    void *carry, *delta;                     /* work: (H,), (H,) */
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

   Truncation cuts the losses into blocks; those of a block, first < t <= end, go back to the steps s > bottom:      (7)

       full: one block of T       window(k): blocks of 1, bottom = end - k
       chunk(k): blocks of k, bottom = first           periodic(k1,k2): blocks of k1, bottom = end - k2             */

#define REAL double
#define EXP exp
#define TANH_OF tanh
#define ELMAN elman_float64
#include "consume.c" /* this file's own name */
#undef REAL
#undef EXP
#undef TANH_OF
#undef ELMAN
#define REAL float
#define EXP expf
#define TANH_OF tanhf
#define ELMAN elman_float32
#include "consume.c"
#undef REAL
#else

static void ELMAN(const struct problem *p) {
    const size_t T = p->T, B = p->B, D = p->D, H = p->H, K = p->K;
    REAL *loss = p->out[LOSS],                                                      /* () */
        *h = p->out[H_], *o = p->out[O],                                            /* (T,B,H), (T,B,K) */
        *dW_xh = p->out[DW_XH], *dW_hh = p->out[DW_HH], *db_h = p->out[DB_H],       /* (D,H), (H,H), (H,) */
        *dx = p->out[DX], *dh0 = p->out[DH0],                                       /* (T,B,D), (B,H) */
        *dW_hy = p->out[DW_HY], *db_y = p->out[DB_Y],                               /* (H,K), (K,) */
        *carry = p->carry, *delta = p->delta;                                       /* (H,), (H,) */
    const REAL *W_xh = p->in[W_XH], *W_hh = p->in[W_HH], *b_h = p->in[B_H],         /* (D,H), (H,H), (H,) */
        *x = p->in[X], *h0 = p->in[H0],                                             /* (T,B,D), (B,H) */
        *W_hy = p->in[W_HY], *b_y = p->in[B_Y],                                     /* (H,K), (K,) */
        *g = p->in[G], *g_h_final = p->in[G_H_FINAL], *y = p->in[TARGET];           /* (T,B,K), (B,H), (T,B,K) */
    const REAL scale = (REAL)p->scale;
    size_t total = 0;
    for (size_t b = 0; b < B; b++) total += p->lengths ? (size_t)p->lengths[b] : T;
    for (size_t b = 0; b < B; b++) {
        const size_t length = p->lengths ? (size_t)p->lengths[b] : T;
        for (size_t t = 0; t < T; t++) { /* (1); step t + 1, whose arrays are at t */
            REAL *h_t = h + (t * B + b) * H, *o_t = o + (t * B + b) * K;
            const REAL *x_t = x + (t * B + b) * D, *h_prev = t ? h_t - B * H : h0 + b * H;
            for (size_t j = 0; j < H; j++) {
                REAL a = b_h[j];
                for (size_t i = 0; i < D; i++) a += x_t[i] * W_xh[i * H + j];
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
        }
        size_t n = (p->time_mean ? length : 1) * (p->batch_mean ? B : 1); /* (4) */
        if (p->tokens) n = total;
        REAL row = 0;
        for (size_t first = 0; first < length; first += p->block) { /* (7) */
            const size_t end = length - first < p->block ? length : first + p->block;
            const size_t bottom = p->within ? first : end > p->depth ? end - p->depth : 0;
            for (size_t j = 0; j < H; j++) carry[j] = g_h_final && end == length ? g_h_final[b * H + j] : 0;
            for (size_t t = end; t-- > bottom;) {
                const REAL *h_t = h + (t * B + b) * H, *x_t = x + (t * B + b) * D;
                const REAL *h_prev = t ? h_t - B * H : h0 + b * H;
                REAL *dx_t = dx + (t * B + b) * D;
                for (size_t k = 0; t >= first && k < K; k++) {
                    const size_t at = (t * B + b) * K + k;
                    const REAL r = y ? o[at] - y[at] : 0;
                    const REAL d_o = y ? 2 * scale * r / (REAL)n : g[at];
                    row += y ? scale * r * r : g[at] * o[at]; /* (2), (3) */
                    if (!p->linear) carry[k] += d_o;
                    if (p->linear) db_y[k] += d_o;
                    for (size_t j = 0; p->linear && j < H; j++) {
                        dW_hy[j * K + k] += h_t[j] * d_o;
                        carry[j] += d_o * W_hy[j * K + k];
                    }
                }
                for (size_t j = 0; j < H; j++) { /* (5) */
                    if (p->activation == TANH) delta[j] = carry[j] * (1 - h_t[j] * h_t[j]);
                    else if (p->activation == SIGMOID) delta[j] = carry[j] * (h_t[j] * (1 - h_t[j]));
                    else if (p->activation == RELU) delta[j] = h_t[j] > 0 ? carry[j] : 0;
                    else delta[j] = carry[j];
                }
                for (size_t i = 0; i < H; i++) {
                    carry[i] = 0;
                    for (size_t j = 0; j < H; j++) carry[i] += W_hh[i * H + j] * delta[j];
                }
                for (size_t j = 0; j < H; j++) { /* (6) */
                    for (size_t i = 0; i < D; i++) dW_xh[i * H + j] += x_t[i] * delta[j];
                    for (size_t i = 0; i < H; i++) dW_hh[i * H + j] += h_prev[i] * delta[j];
                    for (size_t i = 0; i < D; i++) dx_t[i] += W_xh[i * H + j] * delta[j];
                    db_h[j] += delta[j];
                }
            }
            for (size_t j = 0; bottom == 0 && j < H; j++) dh0[b * H + j] += carry[j];
        }
        *loss += row / (REAL)(n ? n : 1);
        const REAL *h_last = h + ((T - 1) * B + b) * H;
        for (size_t j = 0; g_h_final && j < H; j++) {
            *loss += g_h_final[b * H + j] * h_last[j];
            if (length == 0) dh0[b * H + j] = g_h_final[b * H + j];
        }
    }
}

#endif
#ifndef REAL

/* ---- what goes wrong ends the program: the corpus is one that you exported ------------------------------------------ */

static void fail(const char *what, const char *why) {
    fprintf(stderr, "consume: %s: %s\n", what, why);
    exit(2);
}

static void *take(size_t count, size_t width) {
    void *memory = count <= MOST_ENTRIES ? calloc(count ? count : 1, width) : NULL;
    if (!memory) fail("memory", "there is not enough");
    return memory;
}

/* ---- JSON: nodes that point into the text; escapes stay as they stand, and the corpus has none in what is read ------ */

struct node {
    char kind; /* { [ " or 0: a number or a word */
    const char *text, *name;
    size_t size, name_size;
    struct node *child, *next;
};

static const char *skip(const char *at) { return at + strspn(at, " \t\r\n"); }

static const char *read_text(const char *at, const char **text, size_t *size) {
    if (*at != '"') fail("JSON", "expected a text");
    *text = ++at;
    while (*at && *at != '"') at += *at == '\\' && at[1] ? 2 : 1;
    if (!*at) fail("JSON", "ends within a text");
    *size = (size_t)(at - *text);
    return at + 1;
}

static const char *read_value(const char *at, struct node *node, int depth) {
    at = skip(at);
    if (depth > 32) fail("JSON", "nested too deeply");
    if (*at == '"') return node->kind = '"', read_text(at, &node->text, &node->size);
    if (*at != '{' && *at != '[') {
        node->text = at;
        node->size = strcspn(at, ",]} \t\r\n");
        return at + node->size;
    }
    node->kind = *at;
    const char close = *at == '{' ? '}' : ']';
    struct node **link = &node->child;
    for (at = skip(at + 1); *at != close; at = skip(at)) {
        if (node->child && *at++ != ',') fail("JSON", "expected a comma");
        *link = take(1, sizeof **link);
        if (node->kind == '{') {
            at = skip(read_text(skip(at), &(*link)->name, &(*link)->name_size));
            if (*at++ != ':') fail("JSON", "expected a colon");
        }
        at = read_value(at, *link, depth + 1);
        link = &(*link)->next;
    }
    return at + 1;
}

static const struct node *member(const struct node *object, const char *name) {
    const struct node *one = object->kind == '{' ? object->child : NULL;
    while (one && !(one->name_size == strlen(name) && memcmp(one->name, name, one->name_size) == 0)) one = one->next;
    return one;
}

static const struct node *need(const struct node *object, const char *name) {
    const struct node *one = member(object, name);
    if (!one) fail(name, "is not there");
    return one;
}

static bool is(const struct node *node, const char *text) {
    return node->kind == '"' && node->size == strlen(text) && memcmp(node->text, text, node->size) == 0;
}

static size_t whole(const struct node *node) {
    size_t value = 0;
    for (size_t i = 0; i < node->size; i++) {
        if (node->text[i] < '0' || node->text[i] > '9' || value > MOST_FILE) fail("JSON", "expected a whole number");
        value = 10 * value + (size_t)(node->text[i] - '0');
    }
    return value;
}

/* ---- files: a safetensors file is a length, a header of JSON, and the arrays' bytes --------------------------------- */

struct file {
    char *bytes; /* a zero stands behind the last */
    size_t size, data;
    struct node header;
};

static struct file read_file(const char *folder, const char *name, size_t name_size) {
    char path[4096];
    struct file file = {0};
    if (snprintf(path, sizeof path, "%s/%.*s", folder, (int)name_size, name) >= (int)sizeof path) fail(folder, "is too long");
    FILE *in = fopen(path, "rb");
    if (!in) fail(path, "cannot be opened");
    for (size_t room = 1 << 16, got = 1; got; room *= 2) {
        if (room > 2 * MOST_FILE) fail(path, "is too large");
        file.bytes = realloc(file.bytes, room + 1);
        if (!file.bytes) fail(path, "there is no memory for it");
        got = fread(file.bytes + file.size, 1, room - file.size, in);
        file.size += got;
    }
    fclose(in);
    file.bytes[file.size] = 0;
    return file;
}

static struct file read_tensors(const char *folder, const struct node *place) {
    const struct node *name = need(place, "file");
    struct file file = read_file(folder, name->text, name->size);
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && i < file.size; i++) length |= (uint64_t)(unsigned char)file.bytes[i] << 8 * i;
    if (file.size < 8 || length > file.size - 8) fail("safetensors", "its header is longer than the file");
    file.data = 8 + (size_t)length;
    char *text = take((size_t)length + 1, 1); /* ends where the header ends */
    memcpy(text, file.bytes + 8, (size_t)length);
    read_value(text, &file.header, 0);
    return file;
}

/* The bytes of an array of `count` entries of a dtype, copied to where they are aligned; NULL if there is none. */
static void *read_array(const struct file *file, const char *name, const char *dtype, size_t width, size_t count) {
    const struct node *entry = member(&file->header, name);
    if (!entry) return NULL;
    const struct node *offsets = need(entry, "data_offsets")->child;
    if (!offsets || !offsets->next || !is(need(entry, "dtype"), dtype)) fail(name, "is of another dtype");
    const size_t begin = whole(offsets), end = whole(offsets->next);
    if (begin > end || end > file->size - file->data || end - begin != count * width) fail(name, "has another size");
    void *copy = take(count, width);
    memcpy(copy, file->bytes + file->data + begin, count * width);
    return copy;
}

/* ---- a vector: its problem, in the dtype asked for ------------------------------------------------------------------ */

static void sizes_of(const struct problem *p, size_t in[INPUTS], size_t out[OUTPUTS]) {
    const size_t steps = p->T * p->B;
    const size_t inputs[INPUTS] = {p->D * p->H, p->H * p->H, p->H, steps * p->D, p->B * p->H,
                                   p->H * p->K, p->K, steps * p->K, p->B * p->H, steps * p->K};
    const size_t outputs[OUTPUTS] = {1, steps * p->H, steps * p->K, p->D * p->H, p->H * p->H,
                                     p->H, steps * p->D, p->B * p->H, p->H * p->K, p->K};
    memcpy(in, inputs, sizeof inputs);
    memcpy(out, outputs, sizeof outputs);
}

static struct problem read_problem(const struct node *vector, const struct file *file, bool single) {
    static const char *const activations[] = {"tanh", "sigmoid", "relu", "identity"};
    const struct node *sizes = need(vector, "sizes"), *loss = need(vector, "loss"), *cut = need(vector, "truncation");
    const struct node *kind = need(cut, "kind");
    struct problem p = {.linear = is(need(vector, "readout"), "linear")};
    p.T = whole(need(sizes, "T")), p.B = whole(need(sizes, "B")), p.D = whole(need(sizes, "D"));
    p.H = whole(need(sizes, "H")), p.K = whole(need(sizes, "K"));
    if (!p.T || p.T > 1 << 16 || p.B > 1 << 10 || p.D > 1 << 10 || p.H > 1 << 10 || p.K > 1 << 10) fail("sizes", "too large");
    for (int i = 0; i < 4; i++) {
        if (is(need(vector, "activation"), activations[i])) p.activation = i;
    }
    p.squared_error = is(need(loss, "kind"), "squared_error");
    p.scale = p.squared_error ? strtod(need(loss, "scale")->text, NULL) : 0;
    p.tokens = is(need(loss, "time_reduction"), "tokens");
    p.time_mean = is(need(loss, "time_reduction"), "mean");
    p.batch_mean = is(need(loss, "batch_reduction"), "mean");
    p.within = is(kind, "full") || is(kind, "chunk");
    p.block = is(kind, "window") ? 1 : is(kind, "chunk") ? whole(need(cut, "k")) : p.T;
    if (is(kind, "periodic")) p.block = whole(need(cut, "k1")), p.depth = whole(need(cut, "k2"));
    if (is(kind, "window")) p.depth = whole(need(cut, "k"));
    if (!p.block) fail("truncation", "has blocks of no steps");

    size_t in[INPUTS], out[OUTPUTS];
    sizes_of(&p, in, out);
    const bool stored_single = is(need(vector, "stored"), "float32");
    for (int i = 0; i < INPUTS; i++) {
        void *array = read_array(file, INPUT_NAMES[i], stored_single ? "F32" : "F64", stored_single ? 4 : 8, in[i]);
        if (array && stored_single && !single) { /* every dtype of a vector holds its inputs: nothing is rounded */
            double *wide = take(in[i], sizeof *wide);
            for (size_t j = 0; j < in[i]; j++) wide[j] = ((float *)array)[j];
            array = wide;
        }
        p.in[i] = array;
    }
    const bool there = p.in[X] && p.in[W_XH] && p.in[W_HH] && p.in[B_H] && (p.squared_error ? p.in[TARGET] : p.in[G]);
    if (!there || (p.linear && (!p.in[W_HY] || !p.in[B_Y]))) fail("problem", "lacks an array");
    if (!p.in[H0]) p.in[H0] = take(in[H0], 8);
    p.lengths = read_array(file, "lengths", "I64", 8, p.B);
    for (size_t b = 0; p.lengths && b < p.B; b++) {
        if (p.lengths[b] < 0 || (uint64_t)p.lengths[b] > p.T) fail("lengths", "not from 0 to T");
    }
    for (int i = 0; i < OUTPUTS; i++) p.out[i] = take(out[i], 8);
    p.carry = take(p.H, 8), p.delta = take(p.H, 8);
    return p;
}

/* ---- judging: |(got - near) - rest| <= budget, written so that NaN is wrong; an infinite budget judges nothing ------ */

struct count {
    size_t vectors, arrays, wrong;
    double worst;
};

static void write_entry(FILE *out, double value) {
    if (isfinite(value)) fprintf(out, "%.17g", value);
    else fprintf(out, "\"%s\"", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

static void judge(const struct node *vector, const struct file *result, const char *dtype, const struct problem *p,
                  bool single, FILE *answers, struct count *count) {
    const struct node *id = need(vector, "id");
    size_t in[INPUTS], out[OUTPUTS];
    sizes_of(p, in, out);
    for (int i = 0; i < OUTPUTS; i++) {
        if (!p->linear && (i == DW_HY || i == DB_Y)) continue;
        char name[64];
        double *expected[3];
        for (int part = 0; part < 3; part++) {
            static const char *const parts[] = {"near", "rest", "budget."};
            snprintf(name, sizeof name, "%s.%s%s", OUTPUT_NAMES[i], parts[part], part == 2 ? dtype : "");
            expected[part] = read_array(result, name, "F64", 8, out[i]);
            if (!expected[part]) fail(name, "is not there");
        }
        bool wrong = false;
        if (answers) fprintf(answers, "%s\"%s\": [", i ? ", " : "", OUTPUT_NAMES[i]);
        for (size_t j = 0; j < out[i]; j++) {
            const double got = single ? (double)((float *)p->out[i])[j] : ((double *)p->out[i])[j];
            const double error = fabs((got - expected[0][j]) - expected[1][j]), budget = expected[2][j];
            if (!(error <= budget || budget == INFINITY) && !wrong) {
                wrong = true;
                printf("wrong: %.*s %s %s[%zu]: got %a, want %a, budget %a\n", (int)id->size, id->text, dtype, OUTPUT_NAMES[i],
                       j, got, expected[0][j], budget);
            }
            if (error <= budget && error > count->worst * budget) count->worst = error / budget;
            if (answers && j) fputc(',', answers);
            if (answers) write_entry(answers, got);
        }
        if (answers) fputc(']', answers);
        count->arrays++;
        count->wrong += wrong;
        for (int part = 0; part < 3; part++) free(expected[part]);
    }
}

static void one_vector(const char *folder, const struct node *vector, FILE *answers, struct count *count) {
    static const char *const dtypes[] = {"float64", "float32"};
    const struct node *id = need(vector, "id");
    const struct file problem = read_tensors(folder, need(vector, "problem")), result = read_tensors(folder, need(vector, "result"));
    if (answers) fprintf(answers, "%s\n\"%.*s\": {", count->vectors ? "," : "", (int)id->size, id->text);
    count->vectors++;
    bool more = false;
    for (int single = 0; single < 2; single++) {
        const struct node *dtype = need(vector, "dtypes")->child;
        while (dtype && !is(dtype, dtypes[single])) dtype = dtype->next;
        if (!dtype) continue;
        const struct problem p = read_problem(vector, &problem, single);
        (single ? elman_float32 : elman_float64)(&p);
        if (answers) fprintf(answers, "%s\"%s\": {", more ? ", " : "", dtypes[single]);
        judge(vector, &result, dtypes[single], &p, single, answers, count);
        if (answers) fputc('}', answers);
        more = true;
    }
    if (answers) fputc('}', answers);
    free(problem.bytes);
    free(result.bytes);
}

int main(int argc, char **argv) {
    if (argc < 2) fail("usage", "consume VECTORS [ANSWERS]");
    const struct file file = read_file(argv[1], "index.json", 10);
    struct node index = {0};
    read_value(file.bytes, &index, 0);
    if (!is(need(&index, "format"), "bpttcheck-vectors") || whole(need(&index, "schema_version")) != 1) {
        fail("index.json", "another format");
    }
    FILE *answers = argc > 2 ? fopen(argv[2], "w") : NULL;
    if (argc > 2 && !answers) fail(argv[2], "cannot be written");
    if (answers) fputs("{\"format\": \"bpttcheck-answers\", \"version\": 1, \"answers\": {", answers);
    struct count count = {0};
    for (const struct node *vector = need(&index, "vectors")->child; vector; vector = vector->next) {
        const bool ours = is(need(vector, "cell"), "elman") && !is(need(need(vector, "loss"), "kind"), "cross_entropy");
        if (ours) one_vector(argv[1], vector, answers, &count);
    }
    if (answers) fputs("}}\n", answers);
    if (answers && fclose(answers) != 0) fail(argv[2], "cannot be written");
    printf("%zu vectors, %zu arrays, %zu wrong; largest error within: %.3f of the budget\n", count.vectors, count.arrays,
           count.wrong, count.worst);
    return count.wrong ? 1 : 0;
}

#endif
