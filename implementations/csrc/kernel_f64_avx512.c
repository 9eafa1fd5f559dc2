/* kernel_f64_avx512.c: the kernel in float64, for x86 processors with AVX-512. */
#include "target.h"
#ifdef BPTT_BUILDS_AVX
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#include "real_f64.h"
#define FN(name) name##_f64_avx512
#define VECTOR_BYTES 64
#define TILE_ROWS 12
#define TILE_VECS 2
#include "kernel.h"
#endif
