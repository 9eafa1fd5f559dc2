/* linear.h: the products that all cells share, in one precision. Included by kernel.h, which defines REAL and FN.

   Inner loops run along contiguous columns (axpy form), so that they vectorise without reordering any sum: an entry
   of a product is summed in ascending order of its inner index, four terms a pass. Rows of steps beyond a row's
   length are left out of every sum over time, whatever they hold. */

/* c += a0 b0 + a1 b1 + a2 b2 + a3 b3, from left to right */
static void FN(axpy4)(REAL *restrict c,        /* in and out (N,) */
                      const REAL *restrict a,  /* (4,) */
                      const REAL *restrict b0, /* (N,), and so the next three */
                      const REAL *restrict b1, const REAL *restrict b2, const REAL *restrict b3, size_t N) {
    const REAL a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
    for (size_t n = 0; n < N; n++) c[n] = c[n] + a0 * b0[n] + a1 * b1[n] + a2 * b2[n] + a3 * b3[n];
}

static void FN(axpy)(REAL *restrict c,       /* in and out (N,) */
                     REAL a,
                     const REAL *restrict b, /* (N,) */
                     size_t N) {
    for (size_t n = 0; n < N; n++) c[n] += a * b[n];
}

/* C += A W. ldc, lda and ldw are the distances between rows, so that a block of columns can be meant. */
static void FN(add_product)(REAL *C,             /* in and out (M,N) */
                            size_t ldc,
                            const REAL *A,       /* (M,P) */
                            size_t lda,
                            const REAL *W,       /* (P,N) */
                            size_t ldw, size_t M, size_t P, size_t N) {
    const size_t rows = 16; /* rows of C that stay in cache while W passes by */
    for (size_t first = 0; first < M; first += rows) {
        const size_t last = M - first < rows ? M : first + rows;
        size_t p = 0;
        for (; p + 4 <= P; p += 4) {
            const REAL *w = W + p * ldw;
            for (size_t m = first; m < last; m++) {
                FN(axpy4)(C + m * ldc, A + m * lda + p, w, w + ldw, w + 2 * ldw, w + 3 * ldw, N);
            }
        }
        for (; p < P; p++) {
            for (size_t m = first; m < last; m++) FN(axpy)(C + m * ldc, A[m * lda + p], W + p * ldw, N);
        }
    }
}

/* dW += sum over the steps and rows of A_t^T delta_t, skipping steps first+t at or beyond a row's length */
static void FN(add_outer)(REAL *dW,               /* in and out (M,N) */
                          size_t ldw,
                          const REAL *A,          /* (T,B,M) */
                          size_t lda,
                          const REAL *delta,      /* (T,B,N) */
                          size_t ldd,
                          const int64_t *lengths, /* (B,) */
                          size_t first, size_t T, size_t B, size_t M, size_t N) {
    size_t live[4], count = 0;
    for (size_t t = 0; t < T; t++) {
        for (size_t b = 0; b < B; b++) {
            if ((int64_t)(first + t) >= lengths[b]) continue;
            live[count++] = t * B + b;
            if (count < 4) continue;
            for (size_t m = 0; m < M; m++) {
                const REAL a[4] = {A[live[0] * lda + m], A[live[1] * lda + m], A[live[2] * lda + m],
                                   A[live[3] * lda + m]};
                FN(axpy4)(dW + m * ldw, a, delta + live[0] * ldd, delta + live[1] * ldd, delta + live[2] * ldd,
                          delta + live[3] * ldd, N);
            }
            count = 0;
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t m = 0; m < M; m++) FN(axpy)(dW + m * ldw, A[live[i] * lda + m], delta + live[i] * ldd, N);
    }
}

/* dW += sum over t of h_{t-1}^T delta_t, with h_0 = h0 */
static void FN(add_outer_previous)(REAL *dW,               /* in and out (H,N) */
                                   size_t ldw,
                                   const REAL *h0,         /* (B,H) */
                                   const REAL *h,          /* (T,B,H) */
                                   const REAL *delta,      /* (T,B,N) */
                                   size_t ldd,
                                   const int64_t *lengths, /* (B,) */
                                   size_t T, size_t B, size_t H, size_t N) {
    FN(add_outer)(dW, ldw, h0, H, delta, ldd, lengths, 0, 1, B, H, N);
    FN(add_outer)(dW, ldw, h, H, delta + B * ldd, ldd, lengths, 1, T - 1, B, H, N);
}

/* db += sum over the steps and rows of delta_t */
static void FN(add_sum)(REAL *restrict db,          /* in and out (N,) */
                        const REAL *restrict delta, /* (T,B,N) */
                        size_t ldd,
                        const int64_t *lengths,     /* (B,) */
                        size_t T, size_t B, size_t N) {
    for (size_t t = 0; t < T; t++) {
        for (size_t b = 0; b < B; b++) {
            if ((int64_t)t >= lengths[b]) continue;
            for (size_t n = 0; n < N; n++) db[n] += delta[(t * B + b) * ldd + n];
        }
    }
}

/* dp += sum over the steps and rows of c_t o delta_t, for weights that act unit by unit */
static void FN(add_diagonal)(REAL *restrict dp,          /* in and out (H,) */
                             const REAL *restrict c,     /* (T,B,H) */
                             const REAL *restrict delta, /* (T,B,H), ldd apart */
                             size_t ldd,
                             const int64_t *lengths,     /* (B,) */
                             size_t first, size_t T, size_t B, size_t H) {
    for (size_t t = 0; t < T; t++) {
        for (size_t b = 0; b < B; b++) {
            if ((int64_t)(first + t) >= lengths[b]) continue;
            const size_t n = t * B + b;
            for (size_t j = 0; j < H; j++) dp[j] += c[n * H + j] * delta[n * ldd + j];
        }
    }
}

static void FN(transpose)(REAL *restrict WT,      /* out (N,M) */
                          const REAL *restrict W, /* (M,N), ldw apart */
                          size_t ldw, size_t M, size_t N) {
    for (size_t m = 0; m < M; m++) {
        for (size_t n = 0; n < N; n++) WT[n * M + m] = W[m * ldw + n];
    }
}

static void FN(fill_rows)(REAL *restrict C,       /* out (M,N), ldc apart */
                          size_t ldc,
                          const REAL *restrict b, /* (N,) */
                          size_t M, size_t N) {
    for (size_t m = 0; m < M; m++) memcpy(C + m * ldc, b, N * sizeof(REAL));
}

static void FN(zero)(REAL *array, size_t size) {
    for (size_t n = 0; n < size; n++) array[n] = 0;
}
