/* kernel_f32.c: the kernel in float32, for any processor. With GCC and Clang 16 bytes go side by side, which every
   64-bit x86 and ARM has; other compilers get plain numbers. */
#include "target.h"
#include "real_f32.h"
#define FN(name) name##_f32_plain
#define VECTOR_BYTES 16
#define TILE_ROWS 4
#define TILE_VECS 2
#include "kernel.h"
