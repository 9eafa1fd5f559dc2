/* kernel.h: the whole kernel in one precision for one instruction set, and the call by number. Each kernel_*.c includes
   it once, after real_f64.h or real_f32.h and with

       FN(name)       the suffix of all names
       VECTOR_BYTES   the length of a vector
       TILE_ROWS, TILE_VECS   the tile of gemm.h, whose sums fill most of the vector registers */
#include "vector.h"

#include "functions.h"
#include "gemm.h"
#include "linear.h"
#include "state.h"

#include "elman.h"
#include "gru_reset_after.h"
#include "gru_reset_before.h"
#include "lstm.h"
#include "lstm_1997.h"
#include "lstm_peephole.h"
#include "readout.h"

/* Arguments go by position: p[i] is the i-th array of the function in signatures.c. */
int FN(bptt_call)(int function, void *const *p, const bptt_setting *s) {
    switch (function) {
    case BPTT_EXP:
        FN(map_exp)(p[0], p[1], s->T);
        return BPTT_OK;
    case BPTT_TANH_OF:
        FN(map_tanh)(p[0], p[1], s->T);
        return BPTT_OK;
    case BPTT_SIGMA_OF:
        FN(map_sigma)(p[0], p[1], s->T);
        return BPTT_OK;
    case BPTT_READOUT_FORWARD:
        return FN(readout_forward)(p[0], p[1], p[2], p[3], p[4], s);
    case BPTT_READOUT_BACKWARD:
        return FN(readout_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], s);
    case BPTT_ELMAN_FORWARD:
        return FN(elman_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], s);
    case BPTT_ELMAN_BACKWARD:
        return FN(elman_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                  p[13], p[14], p[15], p[16], p[17], p[18], s);
    case BPTT_LSTM_FORWARD:
        return FN(lstm_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], s);
    case BPTT_LSTM_BACKWARD:
        return FN(lstm_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                 p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23], p[24],
                                 p[25], s);
    case BPTT_LSTM_PEEPHOLE_FORWARD:
        return FN(lstm_peephole_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                         p[12], p[13], p[14], s);
    case BPTT_LSTM_PEEPHOLE_BACKWARD:
        return FN(lstm_peephole_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                          p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22],
                                          p[23], p[24], p[25], p[26], p[27], p[28], p[29], p[30], p[31], s);
    case BPTT_LSTM_1997_FORWARD:
        return FN(lstm_1997_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], s);
    case BPTT_LSTM_1997_BACKWARD:
        return FN(lstm_1997_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                      p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23], s);
    case BPTT_GRU_RESET_AFTER_FORWARD:
        return FN(gru_reset_after_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], s);
    case BPTT_GRU_RESET_AFTER_BACKWARD:
        return FN(gru_reset_after_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                            p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], s);
    case BPTT_GRU_RESET_BEFORE_FORWARD:
        return FN(gru_reset_before_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], s);
    case BPTT_GRU_RESET_BEFORE_BACKWARD:
        return FN(gru_reset_before_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                             p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], s);
    default:
        return BPTT_BAD_FUNCTION;
    }
}
