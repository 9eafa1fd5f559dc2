/* lstm.h: the LSTM cell with a forget gate. Included by kernel.h, which defines REAL and FN.

       [a_i a_f a_g a_o] = x_t W_x + h_{t-1} W_h + b                                   (1)
       i, f, o = sigma(a_i), sigma(a_f), sigma(a_o),   g = tanh(a_g)                   (2)
       c_t = f o c_{t-1} + i o g,   h_t = o o tanh(c_t)                                (3)

   Backward, with dh and dc all that reaches h_t and c_t under the mask of the truncation:

       da_o = dh o tanh(c_t) o o(1-o),   dc gains dh o o (1-tanh(c_t)^2)               (4)
       da_i = dc o g o i(1-i),  da_f = dc o c_{t-1} o f(1-f),  da_g = dc o i o (1-g^2)  (5)
       dc_{t-1} gains dc o f,   dh_{t-1} gains delta_t W_h^T                           (6)
       dW_x = sum x_t^T delta_t,  dW_h = sum h_{t-1}^T delta_t,  db = sum delta_t      (7)

   delta_t holds the four da in the order of the columns, i, f, g, o; sweeps only add it up, as in elman.h.
   After Hochreiter and Schmidhuber (1997); the forget gate is that of Gers, Schmidhuber and Cummins (2000). */

/* One step of one row. */
static void FN(lstm_step)(REAL *restrict h,            /* out (H,) */
                          REAL *restrict c,            /* out (H,) */
                          REAL *restrict tanh_c,       /* out (H,) */
                          REAL *restrict gates,        /* in: pre-activations, out: gates (4H,) */
                          const REAL *restrict c_prev, /* (H,) */
                          size_t H) {
    REAL *i = gates, *f = i + H, *g = f + H, *o = g + H;
    FN(map_sigma)(i, i, 2 * H); /* (2): i and f are neighbours */
    FN(map_tanh)(g, g, H);
    FN(map_sigma)(o, o, H);
    for (size_t j = 0; j < H; j++) c[j] = f[j] * c_prev[j] + i[j] * g[j]; /* (3) */
    FN(map_tanh)(tanh_c, c, H);
    for (size_t j = 0; j < H; j++) h[j] = o[j] * tanh_c[j];
}

static int FN(lstm_forward)(REAL *restrict h,          /* out (T,B,H) */
                            REAL *restrict c,          /* out (T,B,H) */
                            REAL *restrict gates,      /* out (T,B,4H): i, f, g, o */
                            REAL *restrict tanh_c,     /* out (T,B,H) */
                            const REAL *restrict W_x,  /* (D,4H) */
                            const REAL *restrict W_h,  /* (H,4H) */
                            const REAL *restrict b,    /* (4H,) */
                            const REAL *restrict x,    /* (T,B,D) */
                            const REAL *restrict h0,   /* (B,H) */
                            const REAL *restrict c0,   /* (B,H) */
                            const int64_t *lengths,    /* (B,) */
                            REAL *restrict pack,       /* work (P): for products */
                            const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 4 * H;
    const int status = bptt_check_lengths(lengths, s);
    if (status) return status;

    const FN(packing) area = FN(part)(pack, s);
    FN(project)(gates, W_x, b, x, area, s, G);
    FN(pack_weights)(area.b, W_h, G, H, G);
    for (size_t t = 0; t < T; t++) {
        const REAL *h_prev = FN(previous)(h0, h, t, B, H), *c_prev = FN(previous)(c0, c, t, B, H);
        REAL *gates_t = gates + t * B * G;
        FN(product)(gates_t, G, gates_t, G, h_prev, H, area.b, &area, B, H, G); /* (1) */
        for (size_t r = 0; r < B; r++) {
            const size_t n = t * B + r;
            FN(lstm_step)(h + n * H, c + n * H, tanh_c + n * H, gates + n * G, c_prev + r * H, H);
        }
        FN(hold)(h + t * B * H, h_prev, lengths, t, B, H);
        FN(hold)(c + t * B * H, c_prev, lengths, t, B, H);
    }
    return BPTT_OK;
}

/* One step of one row, backwards: (4) to (6) but for dh_{t-1}. */
static void FN(lstm_step_backward)(REAL *restrict delta,        /* out (4H,) */
                                   REAL *restrict dc,           /* in: dc_t, out: dc_{t-1} (H,) */
                                   const REAL *restrict dh,     /* (H,) */
                                   const REAL *restrict c_prev, /* (H,) */
                                   const REAL *restrict gates,  /* (4H,) */
                                   const REAL *restrict tanh_c, /* (H,) */
                                   size_t H) {
    const REAL *i = gates, *f = i + H, *g = f + H, *o = g + H;
    REAL *da_i = delta, *da_f = da_i + H, *da_g = da_f + H, *da_o = da_g + H;
    for (size_t j = 0; j < H; j++) {
        const REAL dc_j = dc[j] + dh[j] * o[j] * ((1 - tanh_c[j]) * (1 + tanh_c[j])); /* (4) */
        da_i[j] = dc_j * g[j] * (i[j] * (1 - i[j]));                                  /* (5) */
        da_f[j] = dc_j * c_prev[j] * (f[j] * (1 - f[j]));
        da_g[j] = dc_j * i[j] * ((1 - g[j]) * (1 + g[j]));
        da_o[j] = dh[j] * tanh_c[j] * (o[j] * (1 - o[j]));
        dc[j] = dc_j * f[j]; /* (6) */
    }
}

static int FN(lstm_backward)(REAL *restrict dW_x,           /* out (D,4H) */
                             REAL *restrict dW_h,           /* out (H,4H) */
                             REAL *restrict db,             /* out (4H,) */
                             REAL *restrict dx,             /* out (T,B,D) */
                             REAL *restrict dh0,            /* out (B,H) */
                             REAL *restrict dc0,            /* out (B,H) */
                             const REAL *restrict W_x,      /* (D,4H) */
                             const REAL *restrict W_h,      /* (H,4H) */
                             const REAL *restrict x,        /* (T,B,D) */
                             const REAL *restrict h0,       /* (B,H) */
                             const REAL *restrict c0,       /* (B,H) */
                             const REAL *restrict h,        /* (T,B,H) */
                             const REAL *restrict c,        /* (T,B,H) */
                             const REAL *restrict gates,    /* (T,B,4H) */
                             const REAL *restrict tanh_c,   /* (T,B,H) */
                             const REAL *restrict dh,       /* (T,B,H): dL_t/dh_t */
                             const REAL *restrict dh_final, /* (B,H) */
                             const REAL *restrict dc_final, /* (B,H) */
                             const int64_t *lengths,        /* (B,) */
                             REAL *restrict delta,          /* work (T,B,4H): the sum of all sweeps */
                             REAL *restrict delta_t,        /* work (B,4H) */
                             REAL *restrict dh_t,           /* work (B,H) */
                             REAL *restrict dc_t,           /* work (B,H) */
                             REAL *restrict pack,           /* work (P): for products */
                             unsigned char *marks,          /* work (T,B) */
                             unsigned char *done,           /* work (T,B) */
                             const bptt_setting *s) {
    const size_t T = s->T, B = s->B, H = s->H, G = 4 * H;
    const int status = FN(start_backward)(done, lengths, s, 0);
    if (status) return status;
    const FN(packing) area = FN(part)(pack, s);
    FN(start_initial)(dh0, dh_final, lengths, B, H);
    FN(start_initial)(dc0, dc_final, lengths, B, H);
    FN(pack_transposed)(area.b, W_h, G, G, H);

    FN(zero)(delta, T * B * G);
    for (int sweep = 0; bptt_next_sweep(marks, done, lengths, s) > 0; sweep++) {
        for (size_t t = T; t-- > 0;) {
            if (!bptt_step_is_live(marks + t * B, B)) continue;
            const REAL *c_prev = FN(previous)(c0, c, t, B, H);
            FN(arrive)(dh_t, dh, dh_final, marks, lengths, t, B, H);
            FN(arrive)(dc_t, NULL, dc_final, marks, lengths, t, B, H);
            REAL *now = sweep == 0 ? delta + t * B * G : delta_t;
            if (sweep > 0) FN(zero)(now, B * G);
            for (size_t r = 0; r < B; r++) {
                const size_t n = t * B + r;
                if (!marks[n]) continue;
                FN(lstm_step_backward)(now + r * G, dc_t + r * H, dh_t + r * H, c_prev + r * H, gates + n * G,
                                       tanh_c + n * H, H);
            }
            if (sweep > 0) FN(add)(delta + t * B * G, delta_t, B * G);
            FN(product)(dh_t, H, NULL, 0, now, G, area.b, &area, B, G, H); /* (6) */
            if (t == 0) FN(add)(dh0, dh_t, B * H);
            if (t == 0) FN(add)(dc0, dc_t, B * H);
        }
    }

    FN(input_gradients)(dW_x, db, dx, W_x, x, delta, lengths, area, s, G); /* (7) */
    FN(sum_of_outer)(dW_h, G, (FN(series)){h0, h}, H, delta, G, lengths, area, T, B, H, G); /* (7) */
    return BPTT_OK;
}
