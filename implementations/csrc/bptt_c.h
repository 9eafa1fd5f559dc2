/* bptt_c.h: what every C source of the kernel shares: sizes, options, statuses, truncation, and the call by number.

   Row vectors and the letters T, B, D, H, K as everywhere in the suite; arrays are dense and row-major. Nothing here
   keeps state between calls or reads the floating-point environment, and nothing allocates but team.c for a second
   thread. Functions that depend on the precision end in _f64 or _f32; both come from the one text that kernel.h
   gathers, and so do those of an instruction set, which end in its name. */
#ifndef BPTT_C_H
#define BPTT_C_H

#include <stddef.h>
#include <stdint.h>

#include "team.h"

enum bptt_status {
    BPTT_OK = 0,
    BPTT_BAD_LENGTHS = 1, /* a length outside 0..T */
    BPTT_BAD_OPTION = 2,  /* an activation or truncation that the cell does not have, k < 1, or k2 < k1 */
    BPTT_BAD_FUNCTION = 3, /* not one of enum bptt_function */
    BPTT_BAD_INSTRUCTIONS = 4 /* an instruction set that this processor or this build does not have */
};

enum bptt_activation { BPTT_TANH, BPTT_SIGMOID, BPTT_RELU, BPTT_IDENTITY };

/* window and chunk take k1; periodic takes k1 and k2; cec is lstm_1997's */
enum bptt_truncation { BPTT_FULL, BPTT_WINDOW, BPTT_CHUNK, BPTT_PERIODIC, BPTT_CEC };

/* bits of a mark: what enters the backward pass at one step of one row */
enum bptt_mark { BPTT_CARRY = 1, BPTT_INJECT = 2 };

/* Instruction sets, from the least to the best. */
enum bptt_instructions { BPTT_BEST, BPTT_PLAIN, BPTT_AVX2, BPTT_AVX512, BPTT_INSTRUCTIONS };

/* Sizes of gemm.h that do not depend on the instruction set, and bounds of those that do. */
enum {
    BPTT_K_BLOCK = 256,               /* inner indices that one pass over a tile takes */
    BPTT_ROW_BLOCK = 144,             /* rows of A that are packed at once; a multiple of every tile's rows */
    BPTT_A_STRIDE = BPTT_K_BLOCK + 16, /* between packed rows; a power of two would send them to the same cache lines */
    BPTT_MAX_TILE_ROWS = 12,
    BPTT_MAX_PANEL = 32               /* columns of a panel */
};

typedef struct {
    size_t T, B, D, H, K;
    int activation; /* enum bptt_activation; read by elman alone */
    int truncation; /* enum bptt_truncation; read by the backward functions */
    int64_t k1, k2;
    int instructions; /* enum bptt_instructions */
    int threads;      /* 2, or else one */
    bptt_team *team;  /* NULL; the call by number fills it in */
} bptt_setting;

enum bptt_function {
    BPTT_EXP, /* y = exp(a), T numbers; likewise the next two */
    BPTT_TANH_OF,
    BPTT_SIGMA_OF,
    BPTT_READOUT_FORWARD,
    BPTT_READOUT_BACKWARD,
    BPTT_ELMAN_FORWARD,
    BPTT_ELMAN_BACKWARD,
    BPTT_LSTM_FORWARD,
    BPTT_LSTM_BACKWARD,
    BPTT_LSTM_PEEPHOLE_FORWARD,
    BPTT_LSTM_PEEPHOLE_BACKWARD,
    BPTT_LSTM_1997_FORWARD,
    BPTT_LSTM_1997_BACKWARD,
    BPTT_GRU_RESET_AFTER_FORWARD,
    BPTT_GRU_RESET_AFTER_BACKWARD,
    BPTT_GRU_RESET_BEFORE_FORWARD,
    BPTT_GRU_RESET_BEFORE_BACKWARD,
    BPTT_FUNCTIONS
};

/* Runs one function. arrays are those of signatures.h in that order, aligned, sized as it says, and disjoint. */
int bptt_call_f64(int function, void *const *arrays, const bptt_setting *setting);
int bptt_call_f32(int function, void *const *arrays, const bptt_setting *setting);

/* Whether an instruction set was built in and the processor has it. */
int bptt_has(int instructions);

/* What they choose from; one text, kernel.h, compiled for each. */
typedef int bptt_kernel(int function, void *const *arrays, const bptt_setting *setting);
bptt_kernel bptt_call_f64_plain, bptt_call_f32_plain, bptt_call_f64_avx2, bptt_call_f32_avx2, bptt_call_f64_avx512,
    bptt_call_f32_avx512;

/* How many numbers of A each thread of a product packs at most. */
size_t bptt_a_entries(const bptt_setting *setting);

/* BPTT_OK if every length lies in 0..T */
int bptt_check_lengths(const int64_t *lengths, /* (B,) */
                       const bptt_setting *setting);

/* BPTT_OK if the truncation is one that the caller offers (cec only where has_cec) and its k are in order */
int bptt_check_truncation(const bptt_setting *setting, int has_cec);

/* Marks the steps of the next backward sweep; sweep.c says how. Returns how many losses enter: 0 after the last. */
size_t bptt_next_sweep(unsigned char *marks,   /* out (T,B): bits of enum bptt_mark */
                       unsigned char *done,    /* in and out (T,B): losses that have entered; zeros at first */
                       const int64_t *lengths, /* (B,) */
                       const bptt_setting *setting);

/* whether any row of a step takes part: marks is that step's (B,) */
int bptt_step_is_live(const unsigned char *marks, size_t B);

#endif
