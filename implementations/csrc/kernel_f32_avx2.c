/* kernel_f32_avx2.c: the kernel in float32, for x86 processors with AVX2 and FMA. */
#include "target.h"
#ifdef BPTT_BUILDS_AVX
#pragma GCC target("avx2,fma")
#include "real_f32.h"
#define FN(name) name##_f32_avx2
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define TILE_VECS 2
#include "kernel.h"
#endif
