/* lstm_1997.h: the LSTM cell without a forget gate. Included by kernel.h, which defines REAL and FN.

       [a_i a_g a_o] = x_t W_x + h_{t-1} W_h + b                                       (1)
       i, o = sigma(a_i), sigma(a_o),   g = tanh(a_g)                                  (2)
       c_t = c_{t-1} + i o g,   h_t = o o tanh(c_t)                                    (3)

   Backward, with dh and dc all that reaches h_t and c_t under the mask of the truncation:

       da_o = dh o tanh(c_t) o o(1-o),   dc gains dh o o (1-tanh(c_t)^2)               (4)
       da_i = dc o g o i(1-i),   da_g = dc o i o (1-g^2)                               (5)
       dc_{t-1} gains dc,   dh_{t-1} gains delta_t W_h^T, but nothing under cec        (6)
       dW_x = sum x_t^T delta_t,  dW_h = sum h_{t-1}^T delta_t,  db = sum delta_t      (7)

   Under the truncation cec (the constant error carousel) pre-activations take h_{t-1} for a constant, so that errors
   travel along c alone; the weights keep their immediate partials. delta_t holds the three da in the order of the
   columns, i, g, o; sweeps only add it up, as in elman.h. After Hochreiter and Schmidhuber (1997), who squash with
   scaled logistic functions where (2) and (3) have tanh. */

static int FN(lstm_1997_forward)(REAL *restrict h,          /* out (T,B,H) */
                                 REAL *restrict c,          /* out (T,B,H) */
                                 REAL *restrict gates,      /* out (T,B,3H): i, g, o */
                                 REAL *restrict tanh_c,     /* out (T,B,H) */
                                 const REAL *restrict W_x,  /* (D,3H) */
                                 const REAL *restrict W_h,  /* (H,3H) */
                                 const REAL *restrict b,    /* (3H,) */
                                 const REAL *restrict x,    /* (T,B,D) */
                                 const REAL *restrict h0,   /* (B,H) */
                                 const REAL *restrict c0,   /* (B,H) */
                                 const int64_t *lengths,    /* (B,) */
                                 const bptt_setting *s) {
    const size_t T = s->T, B = s->B, D = s->D, H = s->H, G = 3 * H;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;

    FN(fill_rows)(gates, G, b, T * B, G);
    FN(add_product)(gates, G, x, D, W_x, G, T * B, D, G);
    for (size_t t = 0; t < T; t++) {
        const REAL *h_prev = FN(previous)(h0, h, t, B, H), *c_prev = FN(previous)(c0, c, t, B, H);
        FN(add_product)(gates + t * B * G, G, h_prev, H, W_h, G, B, H, G); /* (1) */
        for (size_t r = 0; r < B; r++) {
            const size_t n = t * B + r;
            REAL *i = gates + n * G, *g = i + H, *o = g + H;
            FN(activate)(i, H, BPTT_SIGMOID); /* (2) */
            FN(activate)(g, H, BPTT_TANH);
            FN(activate)(o, H, BPTT_SIGMOID);
            for (size_t j = 0; j < H; j++) { /* (3) */
                c[n * H + j] = c_prev[r * H + j] + i[j] * g[j];
                tanh_c[n * H + j] = REAL_TANH(c[n * H + j]);
                h[n * H + j] = o[j] * tanh_c[n * H + j];
            }
        }
        FN(hold)(h + t * B * H, h_prev, lengths, t, B, H);
        FN(hold)(c + t * B * H, c_prev, lengths, t, B, H);
    }
    return BPTT_OK;
}

static int FN(lstm_1997_backward)(REAL *restrict dW_x,           /* out (D,3H) */
                                  REAL *restrict dW_h,           /* out (H,3H) */
                                  REAL *restrict db,             /* out (3H,) */
                                  REAL *restrict dx,             /* out (T,B,D) */
                                  REAL *restrict dh0,            /* out (B,H) */
                                  REAL *restrict dc0,            /* out (B,H) */
                                  const REAL *restrict W_x,      /* (D,3H) */
                                  const REAL *restrict W_h,      /* (H,3H) */
                                  const REAL *restrict x,        /* (T,B,D) */
                                  const REAL *restrict h0,       /* (B,H) */
                                  const REAL *restrict h,        /* (T,B,H) */
                                  const REAL *restrict gates,    /* (T,B,3H) */
                                  const REAL *restrict tanh_c,   /* (T,B,H) */
                                  const REAL *restrict dh,       /* (T,B,H): dL_t/dh_t */
                                  const REAL *restrict dh_final, /* (B,H) */
                                  const REAL *restrict dc_final, /* (B,H) */
                                  const int64_t *lengths,        /* (B,) */
                                  REAL *restrict delta,          /* work (T,B,3H): the sum of all sweeps */
                                  REAL *restrict delta_t,        /* work (B,3H) */
                                  REAL *restrict dh_t,           /* work (B,H) */
                                  REAL *restrict dc_t,           /* work (B,H) */
                                  REAL *restrict W_xT,           /* work (3H,D) */
                                  REAL *restrict W_hT,           /* work (3H,H) */
                                  unsigned char *marks,          /* work (T,B) */
                                  unsigned char *done,           /* work (T,B) */
                                  const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 3 * H;
    const int status = FN(start_backward)(delta, G, done, lengths, s, 1);
    if (status) return status;
    FN(start_initial)(dh0, dh_final, lengths, B, H);
    FN(start_initial)(dc0, dc_final, lengths, B, H);
    FN(transpose)(W_hT, W_h, G, H, G);

    while (bptt_next_sweep(marks, done, lengths, s) > 0) {
        for (size_t t = T; t-- > 0;) {
            if (!bptt_step_is_live(marks + t * B, B)) continue;
            FN(arrive)(dh_t, dh, dh_final, marks, lengths, t, B, H);
            FN(arrive)(dc_t, NULL, dc_final, marks, lengths, t, B, H);
            FN(zero)(delta_t, B * G);
            for (size_t r = 0; r < B; r++) {
                const size_t n = t * B + r;
                if (!marks[n]) continue;
                const REAL *i = gates + n * G, *g = i + H, *o = g + H, *tc = tanh_c + n * H;
                const REAL *dh_r = dh_t + r * H;
                REAL *da_i = delta_t + r * G, *da_g = da_i + H, *da_o = da_g + H;
                for (size_t j = 0; j < H; j++) {
                    const REAL dc = dc_t[r * H + j] + dh_r[j] * o[j] * ((1 - tc[j]) * (1 + tc[j])); /* (4) */
                    da_i[j] = dc * g[j] * (i[j] * (1 - i[j]));                                      /* (5) */
                    da_g[j] = dc * i[j] * ((1 - g[j]) * (1 + g[j]));
                    da_o[j] = dh_r[j] * tc[j] * (o[j] * (1 - o[j]));
                    dc_t[r * H + j] = dc; /* (6) */
                }
            }
            FN(axpy)(delta + t * B * G, 1, delta_t, B * G);
            FN(zero)(dh_t, B * H);
            if (s->truncation != BPTT_CEC) FN(add_product)(dh_t, H, delta_t, G, W_hT, H, B, G, H); /* (6) */
            if (t == 0) FN(axpy)(dh0, 1, dh_t, B * H);
            if (t == 0) FN(axpy)(dc0, 1, dc_t, B * H);
        }
    }

    FN(input_gradients)(dW_x, db, dx, W_xT, W_x, x, delta, lengths, s, G); /* (7) */
    FN(zero)(dW_h, H * G);
    FN(add_outer_previous)(dW_h, G, h0, h, delta, G, lengths, T, B, H, G); /* (7) */
    return BPTT_OK;
}
