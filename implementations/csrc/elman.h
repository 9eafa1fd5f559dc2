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
                             REAL *restrict pack,           /* work (P): for products */
                             const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H;
    if (s->activation < BPTT_TANH || s->activation > BPTT_IDENTITY) return BPTT_BAD_OPTION;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;

    const FN(packing) area = FN(part)(pack, s);
    FN(project)(h, W_xh, b_h, x, area, s, H);
    FN(pack_weights)(area.b, W_hh, H, H, H);
    for (size_t t = 0; t < T; t++) {
        const REAL *h_prev = FN(previous)(h0, h, t, B, H);
        REAL *h_t = h + t * B * H;
        FN(product)(h_t, H, h_t, H, h_prev, H, area.b, &area, B, H, H);
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
                              REAL *restrict pack,           /* work (P): for products */
                              unsigned char *marks,          /* work (T,B) */
                              unsigned char *done,           /* work (T,B) */
                              const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H;
    if (s->activation < BPTT_TANH || s->activation > BPTT_IDENTITY) return BPTT_BAD_OPTION;
    const int status = FN(start_backward)(done, lengths, s, 0);
    if (status) return status;
    const FN(packing) area = FN(part)(pack, s);
    FN(start_initial)(dh0, dh_final, lengths, B, H);
    FN(pack_transposed)(area.b, W_hh, H, H, H);

    FN(zero)(delta, T * B * H);
    for (int sweep = 0; bptt_next_sweep(marks, done, lengths, s) > 0; sweep++) {
        for (size_t t = T; t-- > 0;) {
            if (!bptt_step_is_live(marks + t * B, B)) continue;
            REAL *now = sweep == 0 ? delta + t * B * H : delta_t;
            FN(arrive)(dh_t, dh, dh_final, marks, lengths, t, B, H);
            FN(through_activation)(now, dh_t, h + t * B * H, B * H, s->activation); /* (2) */
            if (sweep > 0) FN(add)(delta + t * B * H, delta_t, B * H);
            FN(product)(dh_t, H, NULL, 0, now, H, area.b, &area, B, H, H); /* (3) */
            if (t == 0) FN(add)(dh0, dh_t, B * H);
        }
    }

    FN(input_gradients)(dW_xh, db_h, dx, W_xh, x, delta, lengths, area, s, H); /* (3), (4) */
    FN(sum_of_outer)(dW_hh, H, (FN(series)){h0, h}, H, delta, H, lengths, area, T, B, H, H); /* (4) */
    return BPTT_OK;
}
