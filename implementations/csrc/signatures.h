/* signatures.h: for each function of the kernel, its arrays in the order of its arguments. The binding checks what it
   is given against this list; the C tests allocate exactly what it says. */
#ifndef BPTT_SIGNATURES_H
#define BPTT_SIGNATURES_H

#include "bptt_c.h"

enum { BPTT_MAX_ARRAYS = 40 };

enum bptt_role { BPTT_OUT, BPTT_IN, BPTT_WORK }; /* work: memory that the caller lends */
enum bptt_type { BPTT_REAL, BPTT_INT64, BPTT_BYTE };

typedef struct {
    const char *name; /* NULL ends a list */
    enum bptt_role role;
    enum bptt_type type;
    const char *shape; /* letters of T, B, D, H, K; a digit multiplies the next letter: "TB4H". P: what products pack */
} bptt_array;

typedef struct {
    const char *name;
    const bptt_array *arrays;
} bptt_signature;

/* The signature of one function, or NULL if function is not one of enum bptt_function. */
const bptt_signature *bptt_signature_of(int function);

/* The number of entries of an array, or SIZE_MAX if it does not fit a size_t. */
size_t bptt_entries(const bptt_array *array, const bptt_setting *setting);

#endif
