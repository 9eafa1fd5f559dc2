/* readout.h: the linear readout. Included by kernel.h, which defines REAL and FN.

       o_t = h_t W_hy + b_y                                                            (1)
       dh_t = do_t W_hy^T,   dW_hy = sum h_t^T do_t,   db_y = sum do_t                 (2)

   Steps beyond a row's length add nothing, and their dh_t is 0. No truncation touches dW_hy and db_y. */

static int FN(readout_forward)(REAL *restrict o,          /* out (T,B,K) */
                               const REAL *restrict W_hy, /* (H,K) */
                               const REAL *restrict b_y,  /* (K,) */
                               const REAL *restrict h,    /* (T,B,H) */
                               REAL *restrict pack,       /* work (P): for products */
                               const bptt_setting *s) {
    const FN(packing) area = FN(part)(pack, s);
    FN(pack_weights)(area.b, W_hy, s->K, s->H, s->K);
    FN(product)(o, s->K, b_y, 0, h, s->H, area.b, &area, s->T * s->B, s->H, s->K); /* (1) */
    return BPTT_OK;
}

static int FN(readout_backward)(REAL *restrict dW_hy,      /* out (H,K) */
                                REAL *restrict db_y,       /* out (K,) */
                                REAL *restrict dh,         /* out (T,B,H) */
                                const REAL *restrict W_hy, /* (H,K) */
                                const REAL *restrict h,    /* (T,B,H) */
                                const REAL *restrict d_o,  /* (T,B,K): dL_t/do_t */
                                const int64_t *lengths,    /* (B,) */
                                REAL *restrict pack,       /* work (P): for products */
                                const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, K = s->K;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;
    const FN(packing) area = FN(part)(pack, s);
    FN(pack_transposed)(area.b, W_hy, K, K, H);
    FN(product)(dh, H, NULL, 0, d_o, K, area.b, &area, T * B, K, H); /* (2) */
    for (size_t n = 0; n < T * B; n++) {
        if ((int64_t)(n / B) >= lengths[n % B]) FN(zero)(dh + n * H, H);
    }
    FN(sum_of_outer)(dW_hy, K, (FN(series)){NULL, h}, H, d_o, K, lengths, area, T, B, H, K);
    FN(sum_of_rows)(db_y, d_o, K, lengths, T, B, K);
    return BPTT_OK;
}
