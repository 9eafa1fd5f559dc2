/* gemm.h: the matrix products of all cells, blocked for the caches. Included by kernel.h: REAL, FN, TILE_* and vector.h.

       C = start + A W          rows of A times weights packed once for many steps     (1)
       dW = sum_n a_n^T d_n     over the rows n of all steps that are within a length  (2)

   A tile of TILE_ROWS rows and NR columns of C stays in registers while one block of K_BLOCK inner indices passes by;
   B is packed into panels of NR columns, so that it is read in order, and A into a block of BPTT_ROW_BLOCK rows. The
   blocking is that of Goto and van de Geijn (2008). Each entry is summed over the block in ascending order, from 0;
   then it is added to what it was. So a result depends neither on its place in C nor on how many rows there are. */

enum {
    FN(NR) = TILE_VECS * FN(LANES),
    FN(WIDE) = 8 / TILE_VECS /* panels that a single row takes at once: 8 sums hide the latency of one */
};

/* Where products pack their operands, a for each thread and b for both; and who computes them. */
typedef struct {
    REAL *a, *b;
    size_t a_entries;
    bptt_team *team;
} FN(packing);

static size_t FN(least)(size_t m, size_t n) { return m < n ? m : n; }

static size_t FN(whole_panels)(size_t N) { return (N + FN(NR) - 1) / FN(NR) * FN(NR); }

/* The two parts of the work area, each at a multiple of 64 bytes. */
static FN(packing) FN(part)(REAL *pack, const bptt_setting *s) {
    const uintptr_t misfit = (uintptr_t)pack % 64;
    REAL *start = misfit ? pack + (64 - misfit) / sizeof(REAL) : pack;
    const size_t a_entries = bptt_a_entries(s);
    return (FN(packing)){start, start + BPTT_MEMBERS * a_entries, a_entries, s->team};
}

/* One tile: C = start + a b for rows x columns entries. a is a[m * row + k * step]; rows, row, step are constants. */
ALWAYS_INLINE void FN(tile)(REAL *C, size_t ldc, const REAL *start, size_t start_step, const REAL *a, size_t row,
                            size_t step, const REAL *b, size_t K, const size_t rows, size_t columns) {
    FN(vec) sum[TILE_ROWS][TILE_VECS];
    UNROLL for (size_t m = 0; m < rows; m++) {
        UNROLL for (size_t v = 0; v < TILE_VECS; v++) sum[m][v] = FN(all)(0);
    }
    for (size_t k = 0; k < K; k++) {
        FN(vec) b_k[TILE_VECS];
        UNROLL for (size_t v = 0; v < TILE_VECS; v++) b_k[v] = FN(load)(b + k * FN(NR) + v * FN(LANES));
        for (size_t n = 0; n < FN(NR); n += 64 / sizeof(REAL)) {
            PREFETCH((uintptr_t)b + ((K + k) * FN(NR) + n) * sizeof(REAL)); /* the next panel, or nothing of ours */
        }
        UNROLL for (size_t m = 0; m < rows; m++) {
            const REAL a_km = a[m * row + k * step];
            UNROLL for (size_t v = 0; v < TILE_VECS; v++) sum[m][v] += a_km * b_k[v];
        }
    }
    if (columns == FN(NR)) {
        UNROLL for (size_t m = 0; m < rows; m++) {
            UNROLL for (size_t v = 0; v < TILE_VECS; v++) {
                const size_t n = v * FN(LANES);
                FN(store)(C + m * ldc + n, start ? FN(load)(start + m * start_step + n) + sum[m][v] : sum[m][v]);
            }
        }
        return;
    }
    for (size_t m = 0; m < rows; m++) {
        REAL whole[FN(NR)];
        for (size_t v = 0; v < TILE_VECS; v++) FN(store)(whole + v * FN(LANES), sum[m][v]);
        for (size_t n = 0; n < columns; n++) {
            C[m * ldc + n] = start ? start[m * start_step + n] + whole[n] : whole[n];
        }
    }
}

#define TILE_CASE(m)                                                                                           \
    case m:                                                                                                    \
        FN(tile)(C, ldc, start, start_step, a, ROW, STEP, b, K, m <= TILE_ROWS ? m : 1, columns);              \
        break;
#define TILE_CASES                                                                                             \
    TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4) TILE_CASE(5) TILE_CASE(6)                              \
    TILE_CASE(7) TILE_CASE(8) TILE_CASE(9) TILE_CASE(10) TILE_CASE(11) TILE_CASE(12)

/* A tile of (1): a row of A is contiguous. */
static void FN(tile_of_rows)(REAL *C, size_t ldc, const REAL *start, size_t start_step, const REAL *a, const REAL *b,
                             size_t K, size_t rows, size_t columns) {
#define ROW BPTT_A_STRIDE
#define STEP 1
    switch (rows) { TILE_CASES }
#undef ROW
#undef STEP
}

/* A tile of (2): a column of A^T is contiguous. */
static void FN(tile_of_columns)(REAL *C, size_t ldc, const REAL *start, size_t start_step, const REAL *a,
                                const REAL *b, size_t K, size_t rows, size_t columns) {
#define ROW 1
#define STEP TILE_ROWS
    switch (rows) { TILE_CASES }
#undef ROW
#undef STEP
}
#undef TILE_CASES
#undef TILE_CASE

/* One row of A times WIDE panels of B at once; the last one may be cut to columns. */
static void FN(wide_row)(REAL *C, const REAL *start, const REAL *a, const REAL *b, size_t K, size_t columns) {
    FN(vec) sum[FN(WIDE)][TILE_VECS];
    UNROLL for (size_t p = 0; p < FN(WIDE); p++) {
        UNROLL for (size_t v = 0; v < TILE_VECS; v++) sum[p][v] = FN(all)(0);
    }
    for (size_t k = 0; k < K; k++) {
        UNROLL for (size_t p = 0; p < FN(WIDE); p++) {
            UNROLL for (size_t v = 0; v < TILE_VECS; v++) {
                sum[p][v] += a[k] * FN(load)(b + (p * K + k) * FN(NR) + v * FN(LANES));
            }
        }
    }
    REAL whole[FN(WIDE) * FN(NR)];
    UNROLL for (size_t p = 0; p < FN(WIDE); p++) {
        UNROLL for (size_t v = 0; v < TILE_VECS; v++) FN(store)(whole + p * FN(NR) + v * FN(LANES), sum[p][v]);
    }
    for (size_t n = 0; n < columns; n++) C[n] = start ? start[n] + whole[n] : whole[n];
}

/* Packs the weights W (K,N) for (1): blocks of K_BLOCK rows, in each of them panels of NR columns, zeros at the end. */
static void FN(pack_weights)(REAL *restrict packed,  /* out (K, whole_panels(N)) */
                             const REAL *restrict W, /* (K,N) */
                             size_t ldw, size_t K, size_t N) {
    for (size_t first = 0; first < K; first += BPTT_K_BLOCK) {
        const size_t count = FN(least)(K - first, BPTT_K_BLOCK);
        for (size_t n = 0; n < N; n += FN(NR)) {
            const size_t columns = FN(least)(N - n, FN(NR));
            for (size_t k = first; k < first + count; k++, packed += FN(NR)) {
                memcpy(packed, W + k * ldw + n, columns * sizeof(REAL));
                memset(packed + columns, 0, (FN(NR) - columns) * sizeof(REAL));
            }
        }
    }
}

/* Packs the transpose of W (N,K) in the same way, for delta W^T. */
static void FN(pack_transposed)(REAL *restrict packed,  /* out (K, whole_panels(N)) */
                                const REAL *restrict W, /* (N,K) */
                                size_t ldw, size_t K, size_t N) {
    for (size_t first = 0; first < K; first += BPTT_K_BLOCK) {
        const size_t count = FN(least)(K - first, BPTT_K_BLOCK);
        for (size_t n = 0; n < N; n += FN(NR), packed += count * FN(NR)) {
            const size_t columns = FN(least)(N - n, FN(NR));
            for (size_t k = 0; k < count; k++) {
                for (size_t j = 0; j < columns; j++) packed[k * FN(NR) + j] = W[(n + j) * ldw + first + k];
                for (size_t j = columns; j < FN(NR); j++) packed[k * FN(NR) + j] = 0;
            }
        }
    }
}

/* Rows are shared out evenly, since low tiles leave the multipliers idle: tile i of a block has height(rows, i). */
static size_t FN(height)(size_t rows, size_t i) {
    const size_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    return rows / tiles + (i < rows % tiles);
}

/* (1) for one block of inner indices and one row of A */
static void FN(product_of_row)(REAL *C, const REAL *start, const REAL *a, const REAL *b, size_t K, size_t N) {
    for (size_t n = 0, columns; n < N; n += columns) {
        const int wide = FN(whole_panels)(N - n) >= FN(WIDE) * FN(NR);
        columns = FN(least)(N - n, wide ? FN(WIDE) * FN(NR) : FN(NR));
        if (wide) {
            FN(wide_row)(C + n, start ? start + n : NULL, a, b + n * K, K, columns);
        } else {
            FN(tile_of_rows)(C + n, 0, start ? start + n : NULL, 0, a, b + n * K, K, 1, columns);
        }
    }
}

/* Whether a product of so many multiplications and additions is cut into parts: not if it takes but microseconds. */
static int FN(is_shared)(const FN(packing) *area, size_t M, size_t K, size_t N) {
    return area->team != NULL && (double)M * (double)K * (double)N > 1e5;
}

/* Panels of N columns, in parts: where part p begins. */
static size_t FN(part_start)(size_t N, size_t p, size_t parts) {
    return FN(least)(N, (N + FN(NR) - 1) / FN(NR) * p / parts * FN(NR));
}

/* What a product is of, for each part of it. */
typedef struct {
    REAL *C;
    size_t ldc;
    const REAL *start;
    size_t start_step;
    const REAL *A;
    size_t lda;
    const REAL *packed;
    const FN(packing) *area;
    size_t M, K, N;
    size_t column_parts; /* 0: a part is a block of rows */
} FN(operands);

/* One part of a product: some of its rows and all columns, or some of its columns and all rows. */
static void FN(product_part)(void *what, size_t part, int member) {
    const FN(operands) *p = what;
    const size_t width = FN(whole_panels)(p->N), by_columns = p->column_parts;
    const size_t from = by_columns ? 0 : part * BPTT_ROW_BLOCK;
    const size_t to = by_columns ? p->M : FN(least)(p->M, from + BPTT_ROW_BLOCK);
    const size_t left = by_columns ? FN(part_start)(p->N, part, by_columns) : 0;
    const size_t right = by_columns ? FN(part_start)(p->N, part + 1, by_columns) : p->N;
    REAL *a_area = p->area->a + (size_t)member * p->area->a_entries;
    const REAL *start = p->start;
    size_t start_step = p->start_step;
    for (size_t first = 0; first < p->K; first += BPTT_K_BLOCK, start = p->C, start_step = p->ldc) {
        const size_t count = FN(least)(p->K - first, BPTT_K_BLOCK);
        const REAL *b = p->packed + first * width;
        for (size_t top = from; top < to; top += BPTT_ROW_BLOCK) {
            const size_t rows = FN(least)(to - top, BPTT_ROW_BLOCK);
            for (size_t m = 0; m < rows; m++) {
                memcpy(a_area + m * BPTT_A_STRIDE, p->A + (top + m) * p->lda + first, count * sizeof(REAL));
            }
            for (size_t n = left; n < right; n += FN(NR)) {
                const size_t columns = FN(least)(p->N - n, FN(NR));
                for (size_t i = 0, m = 0, height; m < rows; i++, m += height) {
                    height = FN(height)(rows, i);
                    FN(tile_of_rows)(p->C + (top + m) * p->ldc + n, p->ldc,
                                     start ? start + (top + m) * start_step + n : NULL, start_step,
                                     a_area + m * BPTT_A_STRIDE, b + n * count, count, height, columns);
                }
            }
        }
    }
}

/* (1): C = start + A W, with W packed; start is (M,N), start_step apart, or NULL for 0. start may be C, or a row with
   start_step 0. */
static void FN(product)(REAL *C,            /* out (M,N), ldc apart */
                        size_t ldc, const REAL *start, size_t start_step,
                        const REAL *A,      /* (M,K), lda apart */
                        size_t lda,
                        const REAL *packed, /* W (K,N) */
                        const FN(packing) *area, size_t M, size_t K, size_t N) {
    if (M == 1) {
        for (size_t first = 0; first < K; first += BPTT_K_BLOCK, start = C) {
            const size_t count = FN(least)(K - first, BPTT_K_BLOCK);
            FN(product_of_row)(C, start, A + first, packed + first * FN(whole_panels)(N), count, N);
        }
        return;
    }
    FN(operands) what = {C, ldc, start, start_step, A, lda, packed, area, M, K, N, 1};
    size_t parts = 1;
    if (FN(is_shared)(area, M, K, N)) {
        const size_t blocks = (M + BPTT_ROW_BLOCK - 1) / BPTT_ROW_BLOCK;
        what.column_parts = blocks >= 4 && blocks <= BPTT_MOST_PARTS ? 0 : BPTT_MEMBERS;
        parts = what.column_parts ? BPTT_MEMBERS : blocks;
    }
    bptt_team_do(area->team, FN(product_part), &what, parts);
}

/* The rows that a sum over time runs over: (T,B) of them, those of step 0 elsewhere if first is not NULL. */
typedef struct {
    const REAL *first; /* (B,M) or NULL */
    const REAL *rest;  /* (T,B,M), or (T-1,B,M) after first */
} FN(series);

/* Finds the next rows within their lengths, from row *n on; returns how many, at most K_BLOCK. */
static size_t FN(gather)(const REAL *a_rows[BPTT_K_BLOCK], const REAL *d_rows[BPTT_K_BLOCK], size_t *n, FN(series) A,
                         size_t lda, const REAL *delta, size_t ldd, const int64_t *lengths, size_t T, size_t B) {
    size_t count = 0;
    for (; *n < T * B && count < BPTT_K_BLOCK; ++*n) {
        if ((int64_t)(*n / B) >= lengths[*n % B]) continue;
        a_rows[count] = !A.first ? A.rest + *n * lda : *n < B ? A.first + *n * lda : A.rest + (*n - B) * lda;
        d_rows[count++] = delta + *n * ldd;
    }
    return count;
}

/* What a sum over time is of, for each part of it. */
typedef struct {
    REAL *dW;
    size_t ldw;
    FN(series) A;
    size_t lda;
    const REAL *delta;
    size_t ldd;
    const int64_t *lengths;
    const FN(packing) *area;
    size_t T, B, M, N, parts;
} FN(factors);

/* Some columns of (2). */
static void FN(part_of_sum)(void *what, size_t part, int member) {
    const FN(factors) *p = what;
    const size_t left = FN(part_start)(p->N, part, p->parts), right = FN(part_start)(p->N, part + 1, p->parts);
    REAL *const area_a = p->area->a + (size_t)member * p->area->a_entries, *const area_b = p->area->b;
    const size_t deepest = FN(least)(p->T * p->B, BPTT_K_BLOCK); /* the other thread may be at another block of rows */
    const REAL *a_rows[BPTT_K_BLOCK], *d_rows[BPTT_K_BLOCK];
    const REAL *start = NULL;
    size_t row = 0, count = FN(gather)(a_rows, d_rows, &row, p->A, p->lda, p->delta, p->ldd, p->lengths, p->T, p->B);
    do { /* once at least, for a sum without terms is 0 */
        for (size_t n = left; n < right; n += FN(NR)) {
            const size_t columns = FN(least)(p->N - n, FN(NR));
            for (size_t k = 0; k < count; k++) {
                REAL *b = area_b + n * deepest + k * FN(NR);
                memcpy(b, d_rows[k] + n, columns * sizeof(REAL));
                memset(b + columns, 0, (FN(NR) - columns) * sizeof(REAL));
            }
        }
        for (size_t top = 0; top < p->M; top += BPTT_ROW_BLOCK) {
            const size_t rows = FN(least)(p->M - top, BPTT_ROW_BLOCK);
            for (size_t i = 0, m = 0, height; m < rows; i++, m += height) {
                height = FN(height)(rows, i);
                for (size_t k = 0; k < count; k++) {
                    REAL *a = area_a + (i * count + k) * TILE_ROWS;
                    for (size_t j = 0; j < height; j++) a[j] = a_rows[k][top + m + j];
                }
            }
            for (size_t n = left; n < right; n += FN(NR)) {
                const size_t columns = FN(least)(p->N - n, FN(NR));
                for (size_t i = 0, m = 0, height; m < rows; i++, m += height) {
                    height = FN(height)(rows, i);
                    REAL *C = p->dW + (top + m) * p->ldw + n;
                    FN(tile_of_columns)(C, p->ldw, start ? C : NULL, p->ldw, area_a + i * count * TILE_ROWS,
                                        area_b + n * deepest, count, height, columns);
                }
            }
        }
        start = p->dW;
        count = FN(gather)(a_rows, d_rows, &row, p->A, p->lda, p->delta, p->ldd, p->lengths, p->T, p->B);
    } while (count > 0);
}

/* (2): dW = sum of a_n^T delta_n */
static void FN(sum_of_outer)(REAL *dW,               /* out (M,N), ldw apart */
                             size_t ldw,
                             FN(series) A,           /* rows of M numbers, lda apart */
                             size_t lda,
                             const REAL *delta,      /* (T,B,N), rows ldd apart */
                             size_t ldd,
                             const int64_t *lengths, /* (B,) */
                             FN(packing) area, size_t T, size_t B, size_t M, size_t N) {
    FN(factors) what = {dW, ldw, A, lda, delta, ldd, lengths, &area, T, B, M, N, 1};
    if (FN(is_shared)(&area, M, T * B, N)) what.parts = BPTT_MEMBERS;
    bptt_team_do(area.team, FN(part_of_sum), &what, what.parts);
}
