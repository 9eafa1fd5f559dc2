/* linear.h: sums that need no blocking. Included by kernel.h, which defines REAL and FN.

   Rows of steps beyond a row's length are left out of every sum over time, whatever they hold. */

static void FN(zero)(REAL *array, size_t size) { memset(array, 0, size * sizeof(REAL)); } /* +0, bit by bit */

static void FN(add)(REAL *restrict c,       /* in and out (N,) */
                    const REAL *restrict b, /* (N,) */
                    size_t N) {
    for (size_t n = 0; n < N; n++) c[n] += b[n];
}

/* db = sum over the steps and rows of delta_t */
static void FN(sum_of_rows)(REAL *restrict db,          /* out (N,) */
                            const REAL *restrict delta, /* (T,B,N) */
                            size_t ldd,
                            const int64_t *lengths,     /* (B,) */
                            size_t T, size_t B, size_t N) {
    FN(zero)(db, N);
    for (size_t t = 0; t < T; t++) {
        for (size_t b = 0; b < B; b++) {
            if ((int64_t)t < lengths[b]) FN(add)(db, delta + (t * B + b) * ldd, N);
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
