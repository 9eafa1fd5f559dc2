/* state.h: activations, and what a state carries from step to step. Included by kernel.h, which defines REAL and FN.

   Derivatives are those of the value: tanh' = (1-h)(1+h), sigma' = h(1-h), relu' = [h > 0], identity' = 1.  (1) */

static void FN(activate)(REAL *a, /* in: pre-activations, out: activations (N,) */
                         size_t N, int activation) {
    switch (activation) {
    case BPTT_TANH:
        FN(map_tanh)(a, a, N);
        break;
    case BPTT_SIGMOID:
        FN(map_sigma)(a, a, N);
        break;
    case BPTT_RELU:
        for (size_t n = 0; n < N; n++) a[n] = a[n] <= 0 ? 0 : a[n]; /* NaN stays NaN */
        break;
    default:
        break;
    }
}

/* delta = dh o phi'(a), where h = phi(a) */
static void FN(through_activation)(REAL *restrict delta,    /* out (N,) */
                                   const REAL *restrict dh, /* (N,) */
                                   const REAL *restrict h,  /* (N,) */
                                   size_t N, int activation) {
    switch (activation) { /* (1) */
    case BPTT_TANH:
        for (size_t n = 0; n < N; n++) delta[n] = dh[n] * ((1 - h[n]) * (1 + h[n]));
        break;
    case BPTT_SIGMOID:
        for (size_t n = 0; n < N; n++) delta[n] = dh[n] * (h[n] * (1 - h[n]));
        break;
    case BPTT_RELU:
        for (size_t n = 0; n < N; n++) delta[n] = h[n] > 0 ? dh[n] : 0;
        break;
    default:
        memcpy(delta, dh, N * sizeof(REAL));
        break;
    }
}

/* The state that step t starts from, counting steps from 0: (B,H) of h, or h0. */
static const REAL *FN(previous)(const REAL *h0, /* (B,H) */
                                const REAL *h,  /* (T,B,H) */
                                size_t t, size_t B, size_t H) {
    return t == 0 ? h0 : h + (t - 1) * B * H;
}

/* Rows whose length is t or less keep the state they had. */
static void FN(hold)(REAL *h_t,              /* in and out (B,H) */
                     const REAL *h_prev,     /* (B,H) */
                     const int64_t *lengths, /* (B,) */
                     size_t t, size_t B, size_t H) {
    for (size_t b = 0; b < B; b++) {
        if ((int64_t)t >= lengths[b]) memcpy(h_t + b * H, h_prev + b * H, H * sizeof(REAL));
    }
}

/* What every backward pass begins with: lengths and truncation are in order, and no loss has gone. */
static int FN(start_backward)(unsigned char *done,    /* out (T,B) */
                              const int64_t *lengths, /* (B,) */
                              const bptt_setting *s, int has_cec) {
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;
    memset(done, 0, s->T * s->B);
    return bptt_check_truncation(s, has_cec);
}

/* a = x W + b for all steps and rows at once, G columns wide. */
static void FN(project)(REAL *a,       /* out (T,B,G) */
                        const REAL *W, /* (D,G) */
                        const REAL *b, /* (G,) */
                        const REAL *x, /* (T,B,D) */
                        FN(packing) area, const bptt_setting *s, size_t G) {
    FN(pack_weights)(area.b, W, G, s->D, G);
    FN(product)(a, G, b, 0, x, s->D, area.b, &area, s->T * s->B, s->D, G);
}

/* What every backward pass ends with: the gradients of a = x W + b, G columns wide. */
static void FN(input_gradients)(REAL *dW,               /* out (D,G) */
                                REAL *db,               /* out (G,) */
                                REAL *dx,               /* out (T,B,D) */
                                const REAL *W,          /* (D,G) */
                                const REAL *x,          /* (T,B,D) */
                                const REAL *delta,      /* (T,B,G): 0 beyond a row's length */
                                const int64_t *lengths, /* (B,) */
                                FN(packing) area, const bptt_setting *s, size_t G) {
    const size_t T = s->T, B = s->B, D = s->D;
    FN(pack_transposed)(area.b, W, G, G, D);
    FN(product)(dx, D, NULL, 0, delta, G, area.b, &area, T * B, G, D);
    FN(sum_of_outer)(dW, G, (FN(series)){NULL, x}, D, delta, G, lengths, area, T, B, D, G);
    FN(sum_of_rows)(db, delta, G, lengths, T, B, G);
}

/* dh becomes dL/dh_t: what arrives from step t+1 if the mark says so, plus the loss at t if it says so. The final
   cotangent belongs to the loss at the row's last step. direct is NULL for a state that no output reads. */
static void FN(arrive)(REAL *restrict dh,          /* in: the carry, out (B,H) */
                       const REAL *direct,         /* (T,B,H) or NULL */
                       const REAL *dh_final,       /* (B,H) */
                       const unsigned char *marks, /* (T,B) */
                       const int64_t *lengths,     /* (B,) */
                       size_t t, size_t B, size_t H) {
    for (size_t b = 0; b < B; b++) {
        REAL *row = dh + b * H;
        const int mark = marks[t * B + b];
        if (!(mark & BPTT_CARRY)) FN(zero)(row, H);
        if (!(mark & BPTT_INJECT)) continue;
        if (direct) FN(add)(row, direct + (t * B + b) * H, H);
        if ((int64_t)t + 1 == lengths[b]) FN(add)(row, dh_final + b * H, H);
    }
}

/* dL/dh0 before any sweep: a row of length 0 passes its final cotangent through, others start from zero. */
static void FN(start_initial)(REAL *dh0,              /* out (B,H) */
                              const REAL *dh_final,   /* (B,H) */
                              const int64_t *lengths, /* (B,) */
                              size_t B, size_t H) {
    FN(zero)(dh0, B * H);
    for (size_t b = 0; b < B; b++) {
        if (lengths[b] == 0) memcpy(dh0 + b * H, dh_final + b * H, H * sizeof(REAL));
    }
}
