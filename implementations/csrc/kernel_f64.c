/* kernel_f64.c: the kernel in float64. */
#define REAL double
#define REAL_EXP exp
#define REAL_TANH tanh
#define FN(name) name##_f64
#include "kernel.h"
