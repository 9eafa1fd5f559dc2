/* gru_reset_after.h: the GRU whose reset gate acts after the product. Included by kernel.h, which defines REAL and FN.

       [r z] = sigma(x_t W_x + b_x + h_{t-1} W_h + b_h), the columns of r and z        (1)
       q = h_{t-1} W_hn + b_hn,   n = tanh(x_t W_xn + b_xn + r o q)                    (2)
       h_t = (1-z) o n + z o h_{t-1}                                                   (3)

   Backward, with dh all that reaches h_t under the mask of the truncation:

       da_n = dh o (1-z) o (1-n^2),   da_z = dh o (h_{t-1}-n) o z(1-z)                 (4)
       da_r = da_n o q o r(1-r),   dq = da_n o r                                       (5)
       dh_{t-1} gains dh o z + [da_r da_z dq] W_h^T                                    (6)
       dW_x, db_x, dx from [da_r da_z da_n];  dW_h, db_h from [da_r da_z dq]           (7)

   Columns are r, z, n. Sweeps only add up [da_r da_z da_n]; (5) gives dq from the sum, since r is the same in all.
   Cho et al. (2014) for the gates; this is the variant with the bias b_hn inside the reset. */

/* One step of one row, after both products. */
static void FN(gru_reset_after_step)(REAL *restrict h,            /* out (H,) */
                                     REAL *restrict gates,        /* in: pre-activations, out: gates (3H,) */
                                     const REAL *restrict q,      /* (H,) */
                                     const REAL *restrict b_h,    /* (3H,) */
                                     const REAL *restrict h_prev, /* (H,) */
                                     size_t H) {
    REAL *r = gates, *z = r + H, *n = z + H;
    FN(add)(r, b_h, 2 * H);
    FN(map_sigma)(r, r, 2 * H); /* (1): r and z are neighbours */
    for (size_t j = 0; j < H; j++) n[j] += r[j] * q[j];
    FN(map_tanh)(n, n, H); /* (2) */
    for (size_t j = 0; j < H; j++) h[j] = (1 - z[j]) * n[j] + z[j] * h_prev[j]; /* (3) */
}

static int FN(gru_reset_after_forward)(REAL *restrict h,         /* out (T,B,H) */
                                       REAL *restrict gates,     /* out (T,B,3H): r, z, n */
                                       REAL *restrict q,         /* out (T,B,H) */
                                       const REAL *restrict W_x, /* (D,3H) */
                                       const REAL *restrict W_h, /* (H,3H) */
                                       const REAL *restrict b_x, /* (3H,) */
                                       const REAL *restrict b_h, /* (3H,) */
                                       const REAL *restrict x,   /* (T,B,D) */
                                       const REAL *restrict h0,  /* (B,H) */
                                       const int64_t *lengths,   /* (B,) */
                                       REAL *restrict pack,      /* work (P): for products */
                                       const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 3 * H;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;

    const FN(packing) area = FN(part)(pack, s);
    FN(project)(gates, W_x, b_x, x, area, s, G);
    REAL *const W_rz = area.b, *const W_n = area.b + H * FN(whole_panels)(2 * H);
    FN(pack_weights)(W_rz, W_h, G, H, 2 * H);
    FN(pack_weights)(W_n, W_h + 2 * H, G, H, H);
    for (size_t t = 0; t < T; t++) {
        const REAL *h_prev = FN(previous)(h0, h, t, B, H);
        REAL *gates_t = gates + t * B * G;
        FN(product)(gates_t, G, gates_t, G, h_prev, H, W_rz, &area, B, H, 2 * H);         /* (1) */
        FN(product)(q + t * B * H, H, b_h + 2 * H, 0, h_prev, H, W_n, &area, B, H, H); /* (2) */
        for (size_t row = 0; row < B; row++) {
            const size_t m = t * B + row;
            FN(gru_reset_after_step)(h + m * H, gates + m * G, q + m * H, b_h, h_prev + row * H, H);
        }
        FN(hold)(h + t * B * H, h_prev, lengths, t, B, H);
    }
    return BPTT_OK;
}

/* One step of one row, backwards: (4), (5), and dh o z of (6). */
static void FN(gru_reset_after_step_backward)(REAL *restrict delta,        /* out (3H,): [da_r da_z dq] */
                                              REAL *restrict sum,          /* gains [da_r da_z da_n] (3H,) */
                                              REAL *restrict dh,           /* in and out (H,) */
                                              const REAL *restrict gates,  /* (3H,) */
                                              const REAL *restrict q,      /* (H,) */
                                              const REAL *restrict h_prev, /* (H,) */
                                              size_t H) {
    const REAL *r = gates, *z = r + H, *n = z + H;
    REAL *da_r = delta, *da_z = da_r + H, *dq = da_z + H, *sum_r = sum, *sum_z = sum_r + H, *sum_n = sum_z + H;
    for (size_t j = 0; j < H; j++) {
        const REAL da_n = dh[j] * (1 - z[j]) * ((1 - n[j]) * (1 + n[j])); /* (4) */
        da_z[j] = dh[j] * (h_prev[j] - n[j]) * (z[j] * (1 - z[j]));
        da_r[j] = da_n * q[j] * (r[j] * (1 - r[j])); /* (5) */
        dq[j] = da_n * r[j];
        sum_r[j] += da_r[j];
        sum_z[j] += da_z[j];
        sum_n[j] += da_n;
        dh[j] *= z[j]; /* (6) */
    }
}

static int FN(gru_reset_after_backward)(REAL *restrict dW_x,           /* out (D,3H) */
                                        REAL *restrict dW_h,           /* out (H,3H) */
                                        REAL *restrict db_x,           /* out (3H,) */
                                        REAL *restrict db_h,           /* out (3H,) */
                                        REAL *restrict dx,             /* out (T,B,D) */
                                        REAL *restrict dh0,            /* out (B,H) */
                                        const REAL *restrict W_x,      /* (D,3H) */
                                        const REAL *restrict W_h,      /* (H,3H) */
                                        const REAL *restrict x,        /* (T,B,D) */
                                        const REAL *restrict h0,       /* (B,H) */
                                        const REAL *restrict h,        /* (T,B,H) */
                                        const REAL *restrict gates,    /* (T,B,3H) */
                                        const REAL *restrict q,        /* (T,B,H) */
                                        const REAL *restrict dh,       /* (T,B,H): dL_t/dh_t */
                                        const REAL *restrict dh_final, /* (B,H) */
                                        const int64_t *lengths,        /* (B,) */
                                        REAL *restrict delta,          /* work (T,B,3H): the sum of all sweeps */
                                        REAL *restrict delta_t,        /* work (B,3H): [da_r da_z dq] */
                                        REAL *restrict dh_t,           /* work (B,H) */
                                        REAL *restrict pack,           /* work (P): for products */
                                        unsigned char *marks,          /* work (T,B) */
                                        unsigned char *done,           /* work (T,B) */
                                        const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 3 * H;
    const int status = FN(start_backward)(done, lengths, s, 0);
    if (status) return status;
    const FN(packing) area = FN(part)(pack, s);
    FN(start_initial)(dh0, dh_final, lengths, B, H);
    FN(pack_transposed)(area.b, W_h, G, G, H);

    FN(zero)(delta, T * B * G);
    while (bptt_next_sweep(marks, done, lengths, s) > 0) {
        for (size_t t = T; t-- > 0;) {
            if (!bptt_step_is_live(marks + t * B, B)) continue;
            const REAL *h_prev = FN(previous)(h0, h, t, B, H);
            FN(arrive)(dh_t, dh, dh_final, marks, lengths, t, B, H);
            FN(zero)(delta_t, B * G);
            for (size_t row = 0; row < B; row++) {
                const size_t m = t * B + row;
                if (!marks[m]) continue;
                FN(gru_reset_after_step_backward)(delta_t + row * G, delta + m * G, dh_t + row * H, gates + m * G,
                                                  q + m * H, h_prev + row * H, H);
            }
            FN(product)(dh_t, H, dh_t, H, delta_t, G, area.b, &area, B, G, H); /* (6) */
            if (t == 0) FN(add)(dh0, dh_t, B * H);
        }
    }

    FN(input_gradients)(dW_x, db_x, dx, W_x, x, delta, lengths, area, s, G); /* (7) */
    for (size_t m = 0; m < T * B; m++) { /* from here on delta is [da_r da_z dq] */
        if ((int64_t)(m / B) >= lengths[m % B]) continue;
        for (size_t j = 0; j < H; j++) delta[m * G + 2 * H + j] *= gates[m * G + j];
    }
    FN(sum_of_outer)(dW_h, G, (FN(series)){h0, h}, H, delta, G, lengths, area, T, B, H, G);
    FN(sum_of_rows)(db_h, delta, G, lengths, T, B, G);
    return BPTT_OK;
}
