/* signatures.c: what each function of the kernel takes, in order; one table, hence its length. */
#include "signatures.h"

static const bptt_array map[] = {
    {"y", BPTT_OUT, BPTT_REAL, "T"},
    {"a", BPTT_IN, BPTT_REAL, "T"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array readout_forward[] = {
    {"o", BPTT_OUT, BPTT_REAL, "TBK"},
    {"W_hy", BPTT_IN, BPTT_REAL, "HK"},
    {"b_y", BPTT_IN, BPTT_REAL, "K"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array readout_backward[] = {
    {"dW_hy", BPTT_OUT, BPTT_REAL, "HK"},
    {"db_y", BPTT_OUT, BPTT_REAL, "K"},
    {"dh", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_hy", BPTT_IN, BPTT_REAL, "HK"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"do", BPTT_IN, BPTT_REAL, "TBK"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array elman_forward[] = {
    {"h", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_xh", BPTT_IN, BPTT_REAL, "DH"},
    {"W_hh", BPTT_IN, BPTT_REAL, "HH"},
    {"b_h", BPTT_IN, BPTT_REAL, "H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array elman_backward[] = {
    {"dW_xh", BPTT_OUT, BPTT_REAL, "DH"},
    {"dW_hh", BPTT_OUT, BPTT_REAL, "HH"},
    {"db_h", BPTT_OUT, BPTT_REAL, "H"},
    {"dx", BPTT_OUT, BPTT_REAL, "TBD"},
    {"dh0", BPTT_OUT, BPTT_REAL, "BH"},
    {"W_xh", BPTT_IN, BPTT_REAL, "DH"},
    {"W_hh", BPTT_IN, BPTT_REAL, "HH"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh_final", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"delta", BPTT_WORK, BPTT_REAL, "TBH"},
    {"delta_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"dh_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {"marks", BPTT_WORK, BPTT_BYTE, "TB"},
    {"done", BPTT_WORK, BPTT_BYTE, "TB"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array lstm_forward[] = {
    {"h", BPTT_OUT, BPTT_REAL, "TBH"},
    {"c", BPTT_OUT, BPTT_REAL, "TBH"},
    {"gates", BPTT_OUT, BPTT_REAL, "TB4H"},
    {"tanh_c", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D4H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H4H"},
    {"b", BPTT_IN, BPTT_REAL, "4H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"c0", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array lstm_backward[] = {
    {"dW_x", BPTT_OUT, BPTT_REAL, "D4H"},
    {"dW_h", BPTT_OUT, BPTT_REAL, "H4H"},
    {"db", BPTT_OUT, BPTT_REAL, "4H"},
    {"dx", BPTT_OUT, BPTT_REAL, "TBD"},
    {"dh0", BPTT_OUT, BPTT_REAL, "BH"},
    {"dc0", BPTT_OUT, BPTT_REAL, "BH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D4H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H4H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"c0", BPTT_IN, BPTT_REAL, "BH"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"c", BPTT_IN, BPTT_REAL, "TBH"},
    {"gates", BPTT_IN, BPTT_REAL, "TB4H"},
    {"tanh_c", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh_final", BPTT_IN, BPTT_REAL, "BH"},
    {"dc_final", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"delta", BPTT_WORK, BPTT_REAL, "TB4H"},
    {"delta_t", BPTT_WORK, BPTT_REAL, "B4H"},
    {"dh_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"dc_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {"marks", BPTT_WORK, BPTT_BYTE, "TB"},
    {"done", BPTT_WORK, BPTT_BYTE, "TB"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array lstm_peephole_forward[] = {
    {"h", BPTT_OUT, BPTT_REAL, "TBH"},
    {"c", BPTT_OUT, BPTT_REAL, "TBH"},
    {"gates", BPTT_OUT, BPTT_REAL, "TB4H"},
    {"tanh_c", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D4H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H4H"},
    {"b", BPTT_IN, BPTT_REAL, "4H"},
    {"p_i", BPTT_IN, BPTT_REAL, "H"},
    {"p_f", BPTT_IN, BPTT_REAL, "H"},
    {"p_o", BPTT_IN, BPTT_REAL, "H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"c0", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array lstm_peephole_backward[] = {
    {"dW_x", BPTT_OUT, BPTT_REAL, "D4H"},
    {"dW_h", BPTT_OUT, BPTT_REAL, "H4H"},
    {"db", BPTT_OUT, BPTT_REAL, "4H"},
    {"dp_i", BPTT_OUT, BPTT_REAL, "H"},
    {"dp_f", BPTT_OUT, BPTT_REAL, "H"},
    {"dp_o", BPTT_OUT, BPTT_REAL, "H"},
    {"dx", BPTT_OUT, BPTT_REAL, "TBD"},
    {"dh0", BPTT_OUT, BPTT_REAL, "BH"},
    {"dc0", BPTT_OUT, BPTT_REAL, "BH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D4H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H4H"},
    {"p_i", BPTT_IN, BPTT_REAL, "H"},
    {"p_f", BPTT_IN, BPTT_REAL, "H"},
    {"p_o", BPTT_IN, BPTT_REAL, "H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"c0", BPTT_IN, BPTT_REAL, "BH"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"c", BPTT_IN, BPTT_REAL, "TBH"},
    {"gates", BPTT_IN, BPTT_REAL, "TB4H"},
    {"tanh_c", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh_final", BPTT_IN, BPTT_REAL, "BH"},
    {"dc_final", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"delta", BPTT_WORK, BPTT_REAL, "TB4H"},
    {"delta_t", BPTT_WORK, BPTT_REAL, "B4H"},
    {"dh_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"dc_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {"marks", BPTT_WORK, BPTT_BYTE, "TB"},
    {"done", BPTT_WORK, BPTT_BYTE, "TB"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array lstm_1997_forward[] = {
    {"h", BPTT_OUT, BPTT_REAL, "TBH"},
    {"c", BPTT_OUT, BPTT_REAL, "TBH"},
    {"gates", BPTT_OUT, BPTT_REAL, "TB3H"},
    {"tanh_c", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D3H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H3H"},
    {"b", BPTT_IN, BPTT_REAL, "3H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"c0", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array lstm_1997_backward[] = {
    {"dW_x", BPTT_OUT, BPTT_REAL, "D3H"},
    {"dW_h", BPTT_OUT, BPTT_REAL, "H3H"},
    {"db", BPTT_OUT, BPTT_REAL, "3H"},
    {"dx", BPTT_OUT, BPTT_REAL, "TBD"},
    {"dh0", BPTT_OUT, BPTT_REAL, "BH"},
    {"dc0", BPTT_OUT, BPTT_REAL, "BH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D3H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H3H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"gates", BPTT_IN, BPTT_REAL, "TB3H"},
    {"tanh_c", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh_final", BPTT_IN, BPTT_REAL, "BH"},
    {"dc_final", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"delta", BPTT_WORK, BPTT_REAL, "TB3H"},
    {"delta_t", BPTT_WORK, BPTT_REAL, "B3H"},
    {"dh_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"dc_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {"marks", BPTT_WORK, BPTT_BYTE, "TB"},
    {"done", BPTT_WORK, BPTT_BYTE, "TB"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array gru_reset_after_forward[] = {
    {"h", BPTT_OUT, BPTT_REAL, "TBH"},
    {"gates", BPTT_OUT, BPTT_REAL, "TB3H"},
    {"q", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D3H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H3H"},
    {"b_x", BPTT_IN, BPTT_REAL, "3H"},
    {"b_h", BPTT_IN, BPTT_REAL, "3H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array gru_reset_after_backward[] = {
    {"dW_x", BPTT_OUT, BPTT_REAL, "D3H"},
    {"dW_h", BPTT_OUT, BPTT_REAL, "H3H"},
    {"db_x", BPTT_OUT, BPTT_REAL, "3H"},
    {"db_h", BPTT_OUT, BPTT_REAL, "3H"},
    {"dx", BPTT_OUT, BPTT_REAL, "TBD"},
    {"dh0", BPTT_OUT, BPTT_REAL, "BH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D3H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H3H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"gates", BPTT_IN, BPTT_REAL, "TB3H"},
    {"q", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh_final", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"delta", BPTT_WORK, BPTT_REAL, "TB3H"},
    {"delta_t", BPTT_WORK, BPTT_REAL, "B3H"},
    {"dh_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {"marks", BPTT_WORK, BPTT_BYTE, "TB"},
    {"done", BPTT_WORK, BPTT_BYTE, "TB"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array gru_reset_before_forward[] = {
    {"h", BPTT_OUT, BPTT_REAL, "TBH"},
    {"gates", BPTT_OUT, BPTT_REAL, "TB3H"},
    {"v", BPTT_OUT, BPTT_REAL, "TBH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D3H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H3H"},
    {"b", BPTT_IN, BPTT_REAL, "3H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_array gru_reset_before_backward[] = {
    {"dW_x", BPTT_OUT, BPTT_REAL, "D3H"},
    {"dW_h", BPTT_OUT, BPTT_REAL, "H3H"},
    {"db", BPTT_OUT, BPTT_REAL, "3H"},
    {"dx", BPTT_OUT, BPTT_REAL, "TBD"},
    {"dh0", BPTT_OUT, BPTT_REAL, "BH"},
    {"W_x", BPTT_IN, BPTT_REAL, "D3H"},
    {"W_h", BPTT_IN, BPTT_REAL, "H3H"},
    {"x", BPTT_IN, BPTT_REAL, "TBD"},
    {"h0", BPTT_IN, BPTT_REAL, "BH"},
    {"h", BPTT_IN, BPTT_REAL, "TBH"},
    {"gates", BPTT_IN, BPTT_REAL, "TB3H"},
    {"v", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh", BPTT_IN, BPTT_REAL, "TBH"},
    {"dh_final", BPTT_IN, BPTT_REAL, "BH"},
    {"lengths", BPTT_IN, BPTT_INT64, "B"},
    {"delta", BPTT_WORK, BPTT_REAL, "TB3H"},
    {"delta_t", BPTT_WORK, BPTT_REAL, "B3H"},
    {"dh_t", BPTT_WORK, BPTT_REAL, "BH"},
    {"dv", BPTT_WORK, BPTT_REAL, "BH"},
    {"pack", BPTT_WORK, BPTT_REAL, "P"},
    {"marks", BPTT_WORK, BPTT_BYTE, "TB"},
    {"done", BPTT_WORK, BPTT_BYTE, "TB"},
    {NULL, BPTT_IN, BPTT_REAL, NULL},
};

static const bptt_signature SIGNATURES[BPTT_FUNCTIONS] = {
    [BPTT_EXP] = {"exp", map},
    [BPTT_TANH_OF] = {"tanh", map},
    [BPTT_SIGMA_OF] = {"sigma", map},
    [BPTT_READOUT_FORWARD] = {"readout_forward", readout_forward},
    [BPTT_READOUT_BACKWARD] = {"readout_backward", readout_backward},
    [BPTT_ELMAN_FORWARD] = {"elman_forward", elman_forward},
    [BPTT_ELMAN_BACKWARD] = {"elman_backward", elman_backward},
    [BPTT_LSTM_FORWARD] = {"lstm_forward", lstm_forward},
    [BPTT_LSTM_BACKWARD] = {"lstm_backward", lstm_backward},
    [BPTT_LSTM_PEEPHOLE_FORWARD] = {"lstm_peephole_forward", lstm_peephole_forward},
    [BPTT_LSTM_PEEPHOLE_BACKWARD] = {"lstm_peephole_backward", lstm_peephole_backward},
    [BPTT_LSTM_1997_FORWARD] = {"lstm_1997_forward", lstm_1997_forward},
    [BPTT_LSTM_1997_BACKWARD] = {"lstm_1997_backward", lstm_1997_backward},
    [BPTT_GRU_RESET_AFTER_FORWARD] = {"gru_reset_after_forward", gru_reset_after_forward},
    [BPTT_GRU_RESET_AFTER_BACKWARD] = {"gru_reset_after_backward", gru_reset_after_backward},
    [BPTT_GRU_RESET_BEFORE_FORWARD] = {"gru_reset_before_forward", gru_reset_before_forward},
    [BPTT_GRU_RESET_BEFORE_BACKWARD] = {"gru_reset_before_backward", gru_reset_before_backward},
};

const bptt_signature *bptt_signature_of(int function) {
    return function >= 0 && function < BPTT_FUNCTIONS ? &SIGNATURES[function] : NULL;
}

/* m n, or SIZE_MAX if that is beyond a size_t; likewise the sum */
static size_t times(size_t m, size_t n) { return m != 0 && n > SIZE_MAX / m ? SIZE_MAX : m * n; }
static size_t plus(size_t m, size_t n) { return n > SIZE_MAX - m ? SIZE_MAX : m + n; }
static size_t most(size_t m, size_t n) { return m > n ? m : n; }
static size_t least(size_t m, size_t n) { return m < n ? m : n; }

size_t bptt_a_entries(const bptt_setting *s) {
    const size_t rows = most(times(s->T, s->B), most(s->D, s->H));
    return (least(rows, BPTT_ROW_BLOCK) + BPTT_MAX_TILE_ROWS) * BPTT_A_STRIDE;
}

/* Room for a packed matrix (K,N), whose columns come in panels. */
static size_t packed(size_t K, size_t N) { return times(K, plus(N, BPTT_MAX_PANEL)); }

static size_t pack_entries(const bptt_setting *s) {
    const size_t D = s->D, H = s->H, K = s->K, G = times(4, H), rows = least(times(s->T, s->B), BPTT_K_BLOCK);
    const size_t weights = most(most(packed(D, G), packed(G, D)), plus(packed(H, G), packed(G, H)));
    const size_t readout = most(most(packed(H, K), packed(K, H)), packed(rows, K));
    const size_t b = most(most(weights, readout), packed(rows, G));
    const size_t a = times(BPTT_MEMBERS, bptt_a_entries(s));
    return plus(plus(a, b), 64 / sizeof(float)); /* the last: to align the first */
}

static size_t size_of(char letter, const bptt_setting *setting) {
    switch (letter) {
    case 'T':
        return setting->T;
    case 'B':
        return setting->B;
    case 'D':
        return setting->D;
    case 'H':
        return setting->H;
    case 'P':
        return pack_entries(setting);
    default:
        return setting->K;
    }
}

size_t bptt_entries(const bptt_array *array, const bptt_setting *setting) {
    size_t entries = 1;
    for (const char *letter = array->shape; *letter; letter++) {
        const size_t factor =
            *letter >= '0' && *letter <= '9' ? (size_t)(*letter - '0') : size_of(*letter, setting);
        entries = times(entries, factor);
    }
    return entries;
}
