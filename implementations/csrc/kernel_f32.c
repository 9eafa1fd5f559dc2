/* kernel_f32.c: the kernel in float32. */
#define REAL float
#define REAL_EXP expf
#define REAL_TANH tanhf
#define FN(name) name##_f32
#include "kernel.h"
