/* elman.h: the Elman cell. Included by kernel.h, which defines REAL and FN.

       a_t = x_t W_xh + h_{t-1} W_hh + b_h,   h_t = phi(a_t)                           (1)

   Backward, with dh_t all that reaches h_t under the mask of the truncation:

       delta_t = dh_t o phi'(a_t)                                                      (2)
       dh_{t-1} gains delta_t W_hh^T,   dx_t = delta_t W_xh^T                          (3)
       dW_xh = sum x_t^T delta_t,   dW_hh = sum h_{t-1}^T delta_t,   db_h = sum delta_t  (4)

   (3) and (4) are linear in delta_t, so the sweeps of a truncation only add up delta_t. Elman (1990) for (1);
   Werbos (1990) for the sums over t. Beyond a row's length h stays as it was. */

static int FN(elman_forward)(REAL *restrict h,              /* out (T,B,H) */
                             const REAL *restrict W_xh,     /* (D,H) */
                             const REAL *restrict W_hh,     /* (H,H) */
                             const REAL *restrict b_h,      /* (H,) */
                             const REAL *restrict x,        /* (T,B,D) */
                             const REAL *restrict h0,       /* (B,H) */
                             const int64_t *lengths,        /* (B,) */
                             const bptt_setting *s) {
    const size_t T = s->T, B = s->B, D = s->D, H = s->H;
    if (s->activation < BPTT_TANH || s->activation > BPTT_IDENTITY) return BPTT_BAD_OPTION;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;

    FN(fill_rows)(h, H, b_h, T * B, H);
    FN(add_product)(h, H, x, D, W_xh, H, T * B, D, H);
    for (size_t t = 0; t < T; t++) {
        const REAL *h_prev = FN(previous)(h0, h, t, B, H);
        REAL *h_t = h + t * B * H;
        FN(add_product)(h_t, H, h_prev, H, W_hh, H, B, H, H);
        FN(activate)(h_t, B * H, s->activation); /* (1) */
        FN(hold)(h_t, h_prev, lengths, t, B, H);
    }
    return BPTT_OK;
}

static int FN(elman_backward)(REAL *restrict dW_xh,          /* out (D,H) */
                              REAL *restrict dW_hh,          /* out (H,H) */
                              REAL *restrict db_h,           /* out (H,) */
                              REAL *restrict dx,             /* out (T,B,D) */
                              REAL *restrict dh0,            /* out (B,H) */
                              const REAL *restrict W_xh,     /* (D,H) */
                              const REAL *restrict W_hh,     /* (H,H) */
                              const REAL *restrict x,        /* (T,B,D) */
                              const REAL *restrict h0,       /* (B,H) */
                              const REAL *restrict h,        /* (T,B,H) */
                              const REAL *restrict dh,       /* (T,B,H): dL_t/dh_t */
                              const REAL *restrict dh_final, /* (B,H) */
                              const int64_t *lengths,        /* (B,) */
                              REAL *restrict delta,          /* work (T,B,H): the sum of all sweeps */
                              REAL *restrict delta_t,        /* work (B,H) */
                              REAL *restrict dh_t,           /* work (B,H) */
                              REAL *restrict W_xhT,          /* work (H,D) */
                              REAL *restrict W_hhT,          /* work (H,H) */
                              unsigned char *marks,          /* work (T,B) */
                              unsigned char *done,           /* work (T,B) */
                              const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H;
    if (s->activation < BPTT_TANH || s->activation > BPTT_IDENTITY) return BPTT_BAD_OPTION;
    const int status = FN(start_backward)(delta, H, done, lengths, s, 0);
    if (status) return status;
    FN(start_initial)(dh0, dh_final, lengths, B, H);
    FN(transpose)(W_hhT, W_hh, H, H, H);

    while (bptt_next_sweep(marks, done, lengths, s) > 0) {
        for (size_t t = T; t-- > 0;) {
            if (!bptt_step_is_live(marks + t * B, B)) continue;
            FN(arrive)(dh_t, dh, dh_final, marks, lengths, t, B, H);
            FN(through_activation)(delta_t, dh_t, h + t * B * H, B * H, s->activation); /* (2) */
            FN(axpy)(delta + t * B * H, 1, delta_t, B * H);
            FN(zero)(dh_t, B * H);
            FN(add_product)(dh_t, H, delta_t, H, W_hhT, H, B, H, H); /* (3) */
            if (t == 0) FN(axpy)(dh0, 1, dh_t, B * H);
        }
    }

    FN(input_gradients)(dW_xh, db_h, dx, W_xhT, W_xh, x, delta, lengths, s, H); /* (3), (4) */
    FN(zero)(dW_hh, H * H);
    FN(add_outer_previous)(dW_hh, H, h0, h, delta, H, lengths, T, B, H, H); /* (4) */
    return BPTT_OK;
}
