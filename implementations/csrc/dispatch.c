/* dispatch.c: chooses the kernel for the processor at hand. */
#include "target.h"

int bptt_has(int instructions) {
    switch (instructions) {
    case BPTT_PLAIN:
        return 1;
#ifdef BPTT_BUILDS_AVX
    case BPTT_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case BPTT_AVX512:
        return bptt_has(BPTT_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    default:
        return 0;
    }
}

static int call(bptt_kernel *const kernels[BPTT_INSTRUCTIONS], int function, void *const *arrays,
                const bptt_setting *setting) {
    int chosen = setting->instructions;
    for (int best = BPTT_INSTRUCTIONS - 1; chosen == BPTT_BEST && best > BPTT_BEST; best--) {
        if (bptt_has(best)) chosen = best;
    }
    if (!bptt_has(chosen)) return BPTT_BAD_INSTRUCTIONS;
    bptt_setting own = *setting;
    own.team = setting->threads == BPTT_MEMBERS ? bptt_team_start() : NULL;
    const int status = kernels[chosen](function, arrays, &own);
    bptt_team_end(own.team);
    return status;
}

int bptt_call_f64(int function, void *const *arrays, const bptt_setting *setting) {
    bptt_kernel *const kernels[BPTT_INSTRUCTIONS] = {
        [BPTT_PLAIN] = bptt_call_f64_plain,
#ifdef BPTT_BUILDS_AVX
        [BPTT_AVX2] = bptt_call_f64_avx2,
        [BPTT_AVX512] = bptt_call_f64_avx512,
#endif
    };
    return call(kernels, function, arrays, setting);
}

int bptt_call_f32(int function, void *const *arrays, const bptt_setting *setting) {
    bptt_kernel *const kernels[BPTT_INSTRUCTIONS] = {
        [BPTT_PLAIN] = bptt_call_f32_plain,
#ifdef BPTT_BUILDS_AVX
        [BPTT_AVX2] = bptt_call_f32_avx2,
        [BPTT_AVX512] = bptt_call_f32_avx512,
#endif
    };
    return call(kernels, function, arrays, setting);
}
