/* readout.h: the linear readout. Included by kernel.h, which defines REAL and FN.

       o_t = h_t W_hy + b_y                                                            (1)
       dh_t = do_t W_hy^T,   dW_hy = sum h_t^T do_t,   db_y = sum do_t                 (2)

   Steps beyond a row's length add nothing, and their dh_t is 0. No truncation touches dW_hy and db_y. */

static int FN(readout_forward)(REAL *restrict o,          /* out (T,B,K) */
                               const REAL *restrict W_hy, /* (H,K) */
                               const REAL *restrict b_y,  /* (K,) */
                               const REAL *restrict h,    /* (T,B,H) */
                               const bptt_setting *s) {
    FN(fill_rows)(o, s->K, b_y, s->T * s->B, s->K);
    FN(add_product)(o, s->K, h, s->H, W_hy, s->K, s->T * s->B, s->H, s->K); /* (1) */
    return BPTT_OK;
}

static int FN(readout_backward)(REAL *restrict dW_hy,      /* out (H,K) */
                                REAL *restrict db_y,       /* out (K,) */
                                REAL *restrict dh,         /* out (T,B,H) */
                                const REAL *restrict W_hy, /* (H,K) */
                                const REAL *restrict h,    /* (T,B,H) */
                                const REAL *restrict d_o,  /* (T,B,K): dL_t/do_t */
                                const int64_t *lengths,    /* (B,) */
                                REAL *restrict W_hyT,      /* work (K,H) */
                                const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, K = s->K;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;
    FN(zero)(dW_hy, H * K);
    FN(zero)(db_y, K);
    FN(zero)(dh, T * B * H);
    FN(transpose)(W_hyT, W_hy, K, H, K);
    for (size_t t = 0; t < T; t++) { /* (2) */
        for (size_t b = 0; b < B; b++) {
            const size_t n = t * B + b;
            if ((int64_t)t < lengths[b]) FN(add_product)(dh + n * H, H, d_o + n * K, K, W_hyT, H, 1, K, H);
        }
    }
    FN(add_outer)(dW_hy, K, h, H, d_o, K, lengths, 0, T, B, H, K);
    FN(add_sum)(db_y, d_o, K, lengths, T, B, K);
    return BPTT_OK;
}
