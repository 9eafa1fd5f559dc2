/* gru_reset_before.h: the GRU whose reset gate acts before the product. Included by kernel.h: REAL and FN.

       [r z] = sigma(x_t W_x + h_{t-1} W_h + b), the columns of r and z                (1)
       v = r o h_{t-1},   n = tanh(x_t W_xn + v W_hn + b_n)                            (2)
       h_t = (1-z) o n + z o h_{t-1}                                                   (3)

   Backward, with dh all that reaches h_t under the mask of the truncation:

       da_n = dh o (1-z) o (1-n^2),   da_z = dh o (h_{t-1}-n) o z(1-z)                 (4)
       dv = da_n W_hn^T,   da_r = dv o h_{t-1} o r(1-r)                                (5)
       dh_{t-1} gains dh o z + dv o r + [da_r da_z] W_h,rz^T                           (6)
       dW_x = sum x_t^T delta_t,   db = sum delta_t                                    (7)
       dW_h,rz = sum h_{t-1}^T [da_r da_z],   dW_hn = sum v^T da_n                     (8)

   delta_t is [da_r da_z da_n], columns r, z, n; sweeps only add it up, as in elman.h. Cho et al. (2014). */

static int FN(gru_reset_before_forward)(REAL *restrict h,         /* out (T,B,H) */
                                        REAL *restrict gates,     /* out (T,B,3H): r, z, n */
                                        REAL *restrict v,         /* out (T,B,H) */
                                        const REAL *restrict W_x, /* (D,3H) */
                                        const REAL *restrict W_h, /* (H,3H) */
                                        const REAL *restrict b,   /* (3H,) */
                                        const REAL *restrict x,   /* (T,B,D) */
                                        const REAL *restrict h0,  /* (B,H) */
                                        const int64_t *lengths,   /* (B,) */
                                        REAL *restrict pack,      /* work (P): for products */
                                        const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 3 * H;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;

    const FN(packing) area = FN(part)(pack, s);
    FN(project)(gates, W_x, b, x, area, s, G);
    REAL *const W_rz = area.b, *const W_n = area.b + H * FN(whole_panels)(2 * H);
    FN(pack_weights)(W_rz, W_h, G, H, 2 * H);
    FN(pack_weights)(W_n, W_h + 2 * H, G, H, H);
    for (size_t t = 0; t < T; t++) {
        const REAL *h_prev = FN(previous)(h0, h, t, B, H);
        REAL *gates_t = gates + t * B * G, *v_t = v + t * B * H, *h_t = h + t * B * H;
        FN(product)(gates_t, G, gates_t, G, h_prev, H, W_rz, &area, B, H, 2 * H); /* (1) */
        for (size_t row = 0; row < B; row++) {
            REAL *r = gates_t + row * G;
            FN(map_sigma)(r, r, 2 * H); /* (1): r and z are neighbours */
            for (size_t j = 0; j < H; j++) v_t[row * H + j] = r[j] * h_prev[row * H + j];
        }
        FN(product)(gates_t + 2 * H, G, gates_t + 2 * H, G, v_t, H, W_n, &area, B, H, H); /* (2) */
        for (size_t row = 0; row < B; row++) {
            REAL *z = gates_t + row * G + H, *n = z + H;
            FN(map_tanh)(n, n, H);
            for (size_t j = 0; j < H; j++) h_t[row * H + j] = (1 - z[j]) * n[j] + z[j] * h_prev[row * H + j]; /* (3) */
        }
        FN(hold)(h_t, h_prev, lengths, t, B, H);
    }
    return BPTT_OK;
}

static int FN(gru_reset_before_backward)(REAL *restrict dW_x,           /* out (D,3H) */
                                         REAL *restrict dW_h,           /* out (H,3H) */
                                         REAL *restrict db,             /* out (3H,) */
                                         REAL *restrict dx,             /* out (T,B,D) */
                                         REAL *restrict dh0,            /* out (B,H) */
                                         const REAL *restrict W_x,      /* (D,3H) */
                                         const REAL *restrict W_h,      /* (H,3H) */
                                         const REAL *restrict x,        /* (T,B,D) */
                                         const REAL *restrict h0,       /* (B,H) */
                                         const REAL *restrict h,        /* (T,B,H) */
                                         const REAL *restrict gates,    /* (T,B,3H) */
                                         const REAL *restrict v,        /* (T,B,H) */
                                         const REAL *restrict dh,       /* (T,B,H): dL_t/dh_t */
                                         const REAL *restrict dh_final, /* (B,H) */
                                         const int64_t *lengths,        /* (B,) */
                                         REAL *restrict delta,          /* work (T,B,3H): the sum of all sweeps */
                                         REAL *restrict delta_t,        /* work (B,3H) */
                                         REAL *restrict dh_t,           /* work (B,H) */
                                         REAL *restrict dv,             /* work (B,H) */
                                         REAL *restrict pack,           /* work (P): for products */
                                         unsigned char *marks,          /* work (T,B) */
                                         unsigned char *done,           /* work (T,B) */
                                         const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 3 * H;
    const int status = FN(start_backward)(done, lengths, s, 0);
    if (status) return status;
    const FN(packing) area = FN(part)(pack, s);
    FN(start_initial)(dh0, dh_final, lengths, B, H);
    REAL *const W_rzT = area.b, *const W_nT = area.b + 2 * H * FN(whole_panels)(H);
    FN(pack_transposed)(W_rzT, W_h, G, 2 * H, H);
    FN(pack_transposed)(W_nT, W_h + 2 * H, G, H, H);

    FN(zero)(delta, T * B * G);
    for (int sweep = 0; bptt_next_sweep(marks, done, lengths, s) > 0; sweep++) {
        for (size_t t = T; t-- > 0;) {
            if (!bptt_step_is_live(marks + t * B, B)) continue;
            const REAL *h_prev = FN(previous)(h0, h, t, B, H);
            FN(arrive)(dh_t, dh, dh_final, marks, lengths, t, B, H);
            REAL *now = sweep == 0 ? delta + t * B * G : delta_t;
            if (sweep > 0) FN(zero)(now, B * G);
            for (size_t row = 0; row < B; row++) {
                const size_t m = t * B + row;
                if (!marks[m]) continue;
                const REAL *z = gates + m * G + H, *n = z + H, *h_r = h_prev + row * H;
                REAL *da_z = now + row * G + H, *da_n = da_z + H, *carry = dh_t + row * H;
                for (size_t j = 0; j < H; j++) {
                    da_n[j] = carry[j] * (1 - z[j]) * ((1 - n[j]) * (1 + n[j])); /* (4) */
                    da_z[j] = carry[j] * (h_r[j] - n[j]) * (z[j] * (1 - z[j]));
                    carry[j] *= z[j]; /* (6) */
                }
            }
            FN(product)(dv, H, NULL, 0, now + 2 * H, G, W_nT, &area, B, H, H); /* (5) */
            for (size_t row = 0; row < B; row++) {
                const size_t m = t * B + row;
                if (!marks[m]) continue;
                const REAL *r = gates + m * G, *h_r = h_prev + row * H, *dv_r = dv + row * H;
                REAL *da_r = now + row * G, *carry = dh_t + row * H;
                for (size_t j = 0; j < H; j++) {
                    da_r[j] = dv_r[j] * h_r[j] * (r[j] * (1 - r[j])); /* (5) */
                    carry[j] += dv_r[j] * r[j];                      /* (6) */
                }
            }
            if (sweep > 0) FN(add)(delta + t * B * G, delta_t, B * G);
            FN(product)(dh_t, H, dh_t, H, now, G, W_rzT, &area, B, 2 * H, H); /* (6) */
            if (t == 0) FN(add)(dh0, dh_t, B * H);
        }
    }

    FN(input_gradients)(dW_x, db, dx, W_x, x, delta, lengths, area, s, G); /* (7) */
    FN(sum_of_outer)(dW_h, G, (FN(series)){h0, h}, H, delta, G, lengths, area, T, B, H, 2 * H); /* (8) */
    FN(sum_of_outer)(dW_h + 2 * H, G, (FN(series)){NULL, v}, H, delta + 2 * H, G, lengths, area, T, B, H, H);
    return BPTT_OK;
}
