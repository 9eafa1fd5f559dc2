/* kernel_f32_avx512.c: the kernel in float32, for x86 processors with AVX-512. */
#include "target.h"
#ifdef BPTT_BUILDS_AVX
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#include "real_f32.h"
#define FN(name) name##_f32_avx512
#define VECTOR_BYTES 64
#define TILE_ROWS 12
#define TILE_VECS 2
#include "kernel.h"
#endif
