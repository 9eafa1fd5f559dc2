/* target.h: which instruction sets this compiler can build for one function at a time, without flags of its own. */
#ifndef TARGET_H
#define TARGET_H

#include <string.h>

#include "bptt_c.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define BPTT_BUILDS_AVX
#endif

#endif
