/* transport.h: how errors of one row travel from step to step; oracle/budget/transport.py has the theorem. */
#ifndef BPTTCHECK_TRANSPORT_H
#define BPTTCHECK_TRANSPORT_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "tape.h"

/* The products of Jacobians (count*rows, S), one below the other, of sources whose local errors are (count,kinds,rows). */
typedef struct {
    size_t S, rows, kinds, count;
    double *products, *spare, *sources, *image;
} transport;

static inline void transport_open(transport *self, arena *memory, size_t most_sources, size_t S, size_t rows,
                                  size_t kinds, size_t widest) {
    self->S = S, self->rows = rows, self->kinds = kinds, self->count = 0;
    self->products = arena_doubles(memory, most_sources * rows * S);
    self->spare = arena_doubles(memory, most_sources * rows * S);
    self->sources = arena_doubles(memory, most_sources * kinds * rows);
    self->image = arena_doubles(memory, widest);
}

/* A new source without local errors: the identity in its first S rows, and 0 below. Where its errors (kinds,rows) are. */
static inline double *transport_add(transport *self) {
    const size_t S = self->S, size = self->rows * S;
    double *product = self->products + self->count * size;
    double *errors = self->sources + self->count * self->kinds * self->rows;
    memset(product, 0, size * sizeof(double));
    for (size_t i = 0; i < S; i++) product[i * S + i] = 1.0;
    memset(errors, 0, self->kinds * self->rows * sizeof(double));
    self->count++;
    return errors;
}

/* to (n) += row (m) times W (m,n). */
static inline void multiply(double *restrict to, const double *restrict row, size_t m, const double *restrict W,
                            size_t n) {
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) to[j] += row[i] * W[i * n + j];
    }
}

/* Every product times J (S,S). */
static inline void transport_advance(transport *self, const double *J) {
    const size_t S = self->S, n = self->count * self->rows;
    memset(self->spare, 0, n * S * sizeof(double));
    for (size_t i = 0; i < n; i++) multiply(self->spare + i * S, self->products + i * S, S, J, S);
    double *products = self->products;
    self->products = self->spare;
    self->spare = products;
}

/* to (n): for one kind, what arrives of all sources' errors, |P| or with `through` (S,n) |P through|; n is S without. */
static inline void transport_arrive(transport *self, double *to, size_t kind, const double *through, size_t n) {
    const size_t S = self->S;
    for (size_t j = 0; j < n; j++) to[j] = 0.0;
    for (size_t source = 0; source < self->count; source++) {
        const double *errors = self->sources + (source * self->kinds + kind) * self->rows;
        for (size_t i = 0; i < self->rows; i++) {
            const double *product = self->products + (source * self->rows + i) * S;
            if (through) {
                for (size_t j = 0; j < n; j++) self->image[j] = 0.0;
                multiply(self->image, product, S, through, n);
                product = self->image;
            }
            for (size_t j = 0; j < n; j++) to[j] += errors[i] * fabs(product[j]);
        }
    }
    for (size_t j = 0; j < n; j++) {
        if (to[j] != to[j]) to[j] = INFINITY; /* 0 times infinity: there is no bound */
    }
}

/* The sum of v[i] A[i,j] over i for each j, times `by`, added to to (n); A is (m,n), entries >= 0. */
static inline void add_image(double *to, double by, const double *v, size_t m, const double *A, size_t n) {
    for (size_t j = 0; j < n; j++) {
        double sum = 0.0;
        for (size_t i = 0; i < m; i++) sum += v[i] * A[i * n + j];
        to[j] += by * sum;
    }
}

/* Likewise the sum of v[j] A[i,j] over j for each i, added to to (m). */
static inline void add_coimage(double *to, double by, const double *v, size_t m, const double *A, size_t n) {
    for (size_t i = 0; i < m; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < n; j++) sum += v[j] * A[i * n + j];
        to[i] += by * sum;
    }
}

#endif
