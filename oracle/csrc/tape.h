/* tape.h: a step's graph as numbers and arrays, which Python writes and C reads.

   A tape is a run of integers, read from its start to its end; an array is named by its index in a list, and -1 names
   none. Whoever reads a tape says how many entries each array must have, and a tape that says otherwise, or ends too
   soon, is refused before anything is computed. */
#ifndef BPTTCHECK_TAPE_H
#define BPTTCHECK_TAPE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    double *data;   /* NULL where the place on the list is empty */
    size_t entries; /* float64 numbers */
    int writable;
} tape_array;

typedef struct {
    const int64_t *numbers;
    size_t length, next;
    const double *reals;
    size_t real_count;
    const tape_array *arrays;
    size_t array_count;
    const char *wrong; /* what is, or NULL */
} tape;

enum { TAPE_LARGEST = 1 << 24 }; /* no size or index on a tape is larger */

/* The next integer, from low to high; past the end or outside of these, low, and the tape is wrong. */
int64_t tape_next(tape *from, int64_t low, int64_t high, const char *what);

/* The real at an index that is on the tape. */
double tape_real(tape *from, const char *what);

/* The array at an index that is on the tape, of so many entries; NULL where there is none, if that may be. */
double *tape_read(tape *from, size_t entries, int optional, const char *what);

/* Likewise one that is written to: it must be there. */
double *tape_write(tape *from, size_t entries, const char *what);

/* Memory for one call, zeroed at first: what is taken from it is given back together. */
typedef struct block block;
typedef struct {
    block *blocks;
    int failed;
} arena;

double *arena_doubles(arena *from, size_t count);
void *arena_bytes(arena *from, size_t bytes);
void arena_free(arena *all);

/* The operations of a step's graph, in the order of `OPS` in oracle/budget/compiled.py. */
enum { OP_LEAF, OP_LINEAR, OP_MUL, OP_ADD, OP_MIX, OP_COLUMNS, OP_HOLD, OP_TANH, OP_SIGMOID, OP_RELU, OP_IDENTITY, OPS };

enum { TAPE_INPUTS = 16 }; /* a place reads no more places than that */

/* What stays of the comparison where one is NaN: NaN, as NumPy has it. */
static inline double least(double a, double b) { return a <= b || a != a ? a : b; }
static inline double most(double a, double b) { return a >= b || a != a ? a : b; }

int forward_bounds(tape *from, arena *memory);
int backward_bounds(tape *from, arena *memory);

int pairs_forward(tape *from, arena *memory);
int pairs_backward(tape *from, arena *memory);
int pairs_entrywise(tape *from, arena *memory);
int pairs_product(tape *from, arena *memory);

#endif
