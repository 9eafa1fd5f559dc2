/* kernel.h: the whole kernel in one precision, and the call by number. kernel_f64.c and kernel_f32.c include it once
   each, with REAL (the type), REAL_EXP and REAL_TANH (its elementary functions) and FN (the suffix of names). */
#include <math.h>
#include <string.h>

#include "bptt_c.h"
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
    case BPTT_READOUT_FORWARD:
        return FN(readout_forward)(p[0], p[1], p[2], p[3], s);
    case BPTT_READOUT_BACKWARD:
        return FN(readout_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], s);
    case BPTT_ELMAN_FORWARD:
        return FN(elman_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], s);
    case BPTT_ELMAN_BACKWARD:
        return FN(elman_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                  p[13], p[14], p[15], p[16], p[17], p[18], p[19], s);
    case BPTT_LSTM_FORWARD:
        return FN(lstm_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], s);
    case BPTT_LSTM_BACKWARD:
        return FN(lstm_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                 p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23], p[24],
                                 p[25], p[26], s);
    case BPTT_LSTM_PEEPHOLE_FORWARD:
        return FN(lstm_peephole_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                         p[12], p[13], s);
    case BPTT_LSTM_PEEPHOLE_BACKWARD:
        return FN(lstm_peephole_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                          p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22],
                                          p[23], p[24], p[25], p[26], p[27], p[28], p[29], p[30], p[31], p[32], s);
    case BPTT_LSTM_1997_FORWARD:
        return FN(lstm_1997_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], s);
    case BPTT_LSTM_1997_BACKWARD:
        return FN(lstm_1997_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
                                      p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23],
                                      p[24], s);
    case BPTT_GRU_RESET_AFTER_FORWARD:
        return FN(gru_reset_after_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], s);
    case BPTT_GRU_RESET_AFTER_BACKWARD:
        return FN(gru_reset_after_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                            p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21],
                                            p[22], s);
    case BPTT_GRU_RESET_BEFORE_FORWARD:
        return FN(gru_reset_before_forward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], s);
    case BPTT_GRU_RESET_BEFORE_BACKWARD:
        return FN(gru_reset_before_backward)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11],
                                             p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21],
                                             p[22], s);
    default:
        return BPTT_BAD_FUNCTION;
    }
}
