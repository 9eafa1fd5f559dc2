/* test_kernel.c: every function of the C kernel on memory of exactly the size that its signature says.

   Built with the address and undefined-behaviour sanitizers, which see what leaves an array. What it asserts itself:
   inputs stay as they were; every entry of every output is written; float32 is near float64 (a smoke test's
   bound, far above what rounding costs at these sizes); two threads write what one does, bit by bit; wrong options are
   refused; sweeps cover the mask of the truncation once. Prints one line a failure; the status is 1 if there was one.
   With the word `threads` it runs nothing but the two threads, for the thread sanitizer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../implementations/csrc/signatures.h"

static const bptt_setting SIZES[] = {
    {.T = 1, .B = 1, .D = 1, .H = 1, .K = 1}, {.T = 5, .B = 3, .D = 2, .H = 4, .K = 7},
    {.T = 7, .B = 1, .D = 5, .H = 3, .K = 2}, {.T = 2, .B = 17, .D = 9, .H = 5, .K = 1},
    {.T = 3, .B = 1, .D = 33, .H = 35, .K = 33},
};
/* Where a product has more than one block of rows and of inner indices; too large for every truncation. */
static const bptt_setting LARGE = {
    .T = 2, .B = 150, .D = 259, .H = 9, .K = 5,
};
/* Where every product of a step is cut in two as well. */
static const bptt_setting WIDE = {
    .T = 2, .B = 32, .D = 65, .H = 64, .K = 66, .truncation = BPTT_WINDOW, .k1 = 1,
};
static const bptt_setting CUTS[] = {
    {.truncation = BPTT_FULL},
    {.truncation = BPTT_WINDOW, .k1 = 1},
    {.truncation = BPTT_WINDOW, .k1 = 3},
    {.truncation = BPTT_CHUNK, .k1 = 2},
    {.truncation = BPTT_PERIODIC, .k1 = 2, .k2 = 3},
    {.truncation = BPTT_PERIODIC, .k1 = 3, .k2 = INT64_MAX},
};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES, N_CUTS = sizeof CUTS / sizeof *CUTS };

typedef struct {
    void *now[BPTT_MAX_ARRAYS], *before[BPTT_MAX_ARRAYS];
    size_t bytes[BPTT_MAX_ARRAYS];
    size_t count;
} memory;

static int failures(int add) { /* counts; add 0 reads */
    static int count = 0;
    return count += add;
}

static void expect(int holds, const char *function, const char *what) {
    if (!holds) {
        printf("%s: %s\n", function, what);
        failures(1);
    }
}

static void *reserve(size_t bytes) {
    void *block = malloc(bytes);
    if (!block) abort();
    return block;
}

/* The n-th number of a fixed sequence, in (-0.8, 0.8). */
static double number(size_t n) { return 0.8 * sin(1.0 + 12.9898 * (double)n + 0.37 * (double)(n % 7)); }

static memory prepare(const bptt_signature *signature, const bptt_setting *s, size_t real) {
    memory m = {.count = 0};
    for (const bptt_array *a = signature->arrays; a->name; a++) {
        const size_t i = m.count++, entries = bptt_entries(a, s);
        const size_t itemsize = a->type == BPTT_REAL ? real : a->type == BPTT_INT64 ? sizeof(int64_t) : 1;
        m.bytes[i] = entries * itemsize;
        m.now[i] = reserve(m.bytes[i]);
        m.before[i] = reserve(m.bytes[i]);
        memset(m.now[i], 0xff, m.bytes[i]); /* NaN, wherever nothing is written */
        for (size_t n = 0; a->role == BPTT_IN && n < entries; n++) {
            if (a->type == BPTT_INT64) {
                ((int64_t *)m.now[i])[n] = (int64_t)((s->T + n * 2) % (s->T + 1));
            } else if (real == sizeof(double)) {
                ((double *)m.now[i])[n] = number(n + 31 * i);
            } else {
                ((float *)m.now[i])[n] = (float)number(n + 31 * i);
            }
        }
        memcpy(m.before[i], m.now[i], m.bytes[i]);
    }
    return m;
}

static void discard(memory *m) {
    for (size_t i = 0; i < m->count; i++) {
        free(m->now[i]);
        free(m->before[i]);
    }
}

static void compare(const bptt_signature *signature, const memory *wide, const memory *narrow) {
    for (size_t i = 0; i < wide->count; i++) {
        const bptt_array *a = &signature->arrays[i];
        if (a->role == BPTT_IN) {
            expect(!memcmp(wide->now[i], wide->before[i], wide->bytes[i]), signature->name, "an input changed");
            expect(!memcmp(narrow->now[i], narrow->before[i], narrow->bytes[i]), signature->name, "an input changed");
        }
        for (size_t n = 0; a->role == BPTT_OUT && n < wide->bytes[i] / sizeof(double); n++) {
            const double want = ((const double *)wide->now[i])[n], got = ((const float *)narrow->now[i])[n];
            expect(isfinite(want) && isfinite(got), signature->name, "an output was not written");
            expect(fabs(got - want) <= 1e-3 * (1 + fabs(want)), signature->name, "float32 is far from float64");
        }
    }
}

static void test_function(int function, const bptt_setting *s) {
    const bptt_signature *signature = bptt_signature_of(function);
    memory wide = prepare(signature, s, sizeof(double)), narrow = prepare(signature, s, sizeof(float));
    expect(bptt_call_f64(function, wide.now, s) == BPTT_OK, signature->name, "float64 was refused");
    expect(bptt_call_f32(function, narrow.now, s) == BPTT_OK, signature->name, "float32 was refused");
    compare(signature, &wide, &narrow);
    discard(&wide);
    discard(&narrow);
}

static void test_threads(int function, bptt_setting s, size_t real) {
    const bptt_signature *signature = bptt_signature_of(function);
    memory one = prepare(signature, &s, real), two = prepare(signature, &s, real);
    for (s.threads = 1; s.threads <= 2; s.threads++) {
        void *const *arrays = s.threads == 1 ? one.now : two.now;
        const int status = real == sizeof(double) ? bptt_call_f64(function, arrays, &s) : bptt_call_f32(function, arrays, &s);
        expect(status == BPTT_OK, signature->name, "a number of threads was refused");
    }
    for (size_t i = 0; i < one.count; i++) {
        if (signature->arrays[i].role != BPTT_OUT) continue;
        expect(!memcmp(one.now[i], two.now[i], one.bytes[i]), signature->name, "two threads differ from one");
    }
    discard(&one);
    discard(&two);
}

static void test_all_threads(int instructions) {
    for (int function = BPTT_READOUT_FORWARD; function < BPTT_FUNCTIONS; function++) {
        bptt_setting s = function % 2 ? WIDE : LARGE;
        s.instructions = instructions;
        test_threads(function, s, sizeof(double));
        s = WIDE;
        s.instructions = instructions;
        test_threads(function, s, sizeof(float));
    }
}

/* Changes one option, or the first length, to what the kernel must refuse. */
static void test_refusal(int function, bptt_setting s, int64_t length, int status) {
    const bptt_signature *signature = bptt_signature_of(function);
    memory m = prepare(signature, &s, sizeof(double));
    for (size_t i = 0; i < m.count && length; i++) {
        if (signature->arrays[i].type == BPTT_INT64) *(int64_t *)m.now[i] = length;
    }
    expect(bptt_call_f64(function, m.now, &s) == status, signature->name, "a wrong argument was not refused");
    discard(&m);
}

static void test_refusals(void) {
    bptt_setting s = SIZES[1];
    for (int function = BPTT_READOUT_BACKWARD; function < BPTT_FUNCTIONS; function++) {
        test_refusal(function, s, -1, BPTT_BAD_LENGTHS);
        test_refusal(function, s, (int64_t)s.T + 1, BPTT_BAD_LENGTHS);
    }
    s.activation = BPTT_IDENTITY + 1;
    test_refusal(BPTT_ELMAN_FORWARD, s, 0, BPTT_BAD_OPTION);
    test_refusal(BPTT_ELMAN_BACKWARD, s, 0, BPTT_BAD_OPTION);
    s.activation = BPTT_TANH;
    for (int function = BPTT_ELMAN_BACKWARD; function < BPTT_FUNCTIONS; function += 2) {
        const bptt_setting wrong[] = {{.truncation = BPTT_WINDOW, .k1 = 0},
                                      {.truncation = BPTT_CHUNK, .k1 = -1},
                                      {.truncation = BPTT_PERIODIC, .k1 = 3, .k2 = 2},
                                      {.truncation = BPTT_CEC + 1},
                                      {.truncation = BPTT_CEC}};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            s.truncation = wrong[i].truncation, s.k1 = wrong[i].k1, s.k2 = wrong[i].k2;
            const int offered = s.truncation == BPTT_CEC && function == BPTT_LSTM_1997_BACKWARD;
            test_refusal(function, s, 0, offered ? BPTT_OK : BPTT_BAD_OPTION);
        }
    }
    expect(bptt_call_f64(BPTT_FUNCTIONS, NULL, &s) == BPTT_BAD_FUNCTION, "call", "an unknown function was not refused");
    expect(bptt_call_f32(-1, NULL, &s) == BPTT_BAD_FUNCTION, "call", "an unknown function was not refused");
    s.instructions = BPTT_INSTRUCTIONS;
    expect(bptt_call_f64(0, NULL, &s) == BPTT_BAD_INSTRUCTIONS, "call", "an unknown instruction set was not refused");
    expect(!bptt_signature_of(BPTT_FUNCTIONS) && !bptt_signature_of(-1), "signature", "an unknown one was found");
    const bptt_array large = {"large", BPTT_IN, BPTT_REAL, "TB4H"};
    s.T = SIZE_MAX / 8;
    expect(bptt_entries(&large, &s) == SIZE_MAX, "entries", "an overflow was not seen");
}

/* m(t,s), literally as the design has it */
static int mask(const bptt_setting *cut, int64_t t, int64_t s, int64_t length) {
    if (s < 1 || s > t || t > length) return 0;
    switch (cut->truncation) {
    case BPTT_WINDOW:
        return t - s < cut->k1;
    case BPTT_CHUNK:
        return (t - 1) / cut->k1 == (s - 1) / cut->k1;
    case BPTT_PERIODIC: {
        int64_t end = cut->k1;
        while (end < t) end += cut->k1;
        return s > (end < length ? end : length) - cut->k2;
    }
    default:
        return 1;
    }
}

enum { SPAN = 8, ROWS = SPAN + 1 }; /* steps, and one row of each length from 0 */

static void test_sweeps(bptt_setting cut) {
    unsigned char marks[SPAN * ROWS], done[SPAN * ROWS] = {0};
    int64_t lengths[ROWS];
    int seen[ROWS][SPAN + 1][SPAN + 1] = {{{0}}}; /* (row, t, s) */
    for (int b = 0; b < ROWS; b++) lengths[b] = b;
    cut.T = SPAN, cut.B = ROWS;
    while (bptt_next_sweep(marks, done, lengths, &cut) > 0) {
        for (int b = 0; b < ROWS; b++) {
            int travels[SPAN + 1] = {0}; /* the losses that reach this step */
            for (int s = SPAN; s >= 1; s--) {
                const int mark = marks[(s - 1) * ROWS + b];
                if (!(mark & BPTT_CARRY)) memset(travels, 0, sizeof travels);
                if (mark & BPTT_INJECT) travels[s] = 1;
                for (int t = s; t <= SPAN; t++) seen[b][t][s] += travels[t];
            }
        }
    }
    for (int b = 0; b < ROWS; b++) {
        for (int t = 1; t <= SPAN; t++) {
            for (int s = 1; s <= SPAN; s++) {
                expect(seen[b][t][s] == mask(&cut, t, s, b), "sweep", "a term was left out, added, or counted twice");
            }
        }
    }
}

static void test_functions(int instructions) {
    for (int function = 0; function < BPTT_FUNCTIONS; function++) {
        const int activations = function == BPTT_ELMAN_FORWARD || function == BPTT_ELMAN_BACKWARD ? BPTT_IDENTITY : 0;
        for (int size = 0; size < N_SIZES; size++) {
            for (int cut = 0; cut < N_CUTS; cut++) {
                for (int activation = BPTT_TANH; activation <= activations; activation++) {
                    bptt_setting s = CUTS[cut];
                    s.T = SIZES[size].T, s.B = SIZES[size].B, s.D = SIZES[size].D;
                    s.H = SIZES[size].H, s.K = SIZES[size].K, s.activation = activation;
                    s.instructions = instructions;
                    test_function(function, &s);
                }
            }
        }
        bptt_setting large = LARGE;
        large.instructions = instructions;
        test_function(function, &large);
    }
}

int main(int words, char **word) {
    const int threads_alone = words > 1 && !strcmp(word[1], "threads");
    for (int instructions = BPTT_BEST; instructions < BPTT_INSTRUCTIONS; instructions++) {
        if (instructions != BPTT_BEST && !bptt_has(instructions)) continue;
        if (!threads_alone) test_functions(instructions);
        if (instructions <= BPTT_PLAIN) test_all_threads(instructions);
    }
    if (threads_alone) {
        printf("%d failures\n", failures(0));
        return failures(0) != 0;
    }
    test_refusals();
    for (int64_t k1 = 1; k1 <= SPAN + 1; k1++) {
        test_sweeps((bptt_setting){.truncation = BPTT_FULL});
        test_sweeps((bptt_setting){.truncation = BPTT_WINDOW, .k1 = k1});
        test_sweeps((bptt_setting){.truncation = BPTT_CHUNK, .k1 = k1});
        for (int64_t k2 = k1; k2 <= SPAN + 2; k2++) {
            test_sweeps((bptt_setting){.truncation = BPTT_PERIODIC, .k1 = k1, .k2 = k2});
        }
    }
    printf("%d failures\n", failures(0));
    return failures(0) != 0;
}
