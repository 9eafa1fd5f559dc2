/* sweep.c: truncation as backward sweeps that any cell can run.

   The gradient sums m(t,s) times the term of (t,s), and every truncation has a mask of one form,

       m(t,s) = [floor(t) < s <= t]                                                    (1)
       full, cec      floor(t) = 0
       window(k)      floor(t) = t - k
       chunk(k)       floor(t) = k * ((t-1) div k)
       periodic       floor(t) = e(t) - k2,   e(t) = min(length, k1 * ceil(t/k1))

   A backward sweep goes from T down to 1 and carries dL/dh. Losses with the same floor travel together; a carry ends
   at its floor, after which another group may start. Each row takes, from above, the first group that has not gone
   yet; sweeps repeat until all have. So full and chunk need one sweep, window(k) needs k, and no term is counted
   twice. periodic(k1,k2) is BPTT(h; h') of Williams and Peng (1990), h = k2 and h' = k1. */
#include "bptt_c.h"

static int64_t at_least_zero(int64_t value) { return value > 0 ? value : 0; }

/* floor(t) of (1); t and length from 1 to T, k1 and k2 at most T so that nothing overflows */
static int64_t mask_floor(int64_t t, int64_t length, int truncation, int64_t k1, int64_t k2) {
    switch (truncation) {
    case BPTT_WINDOW:
        return at_least_zero(t - k1);
    case BPTT_CHUNK:
        return k1 * ((t - 1) / k1);
    case BPTT_PERIODIC: {
        const int64_t end = k1 * ((t - 1) / k1 + 1); /* the ceiling, for t >= 1 */
        return at_least_zero((end < length ? end : length) - k2);
    }
    default:
        return 0;
    }
}

int bptt_check_lengths(const int64_t *lengths, const bptt_setting *setting) {
    for (size_t b = 0; b < setting->B; b++) {
        if (lengths[b] < 0 || (uint64_t)lengths[b] > setting->T) return BPTT_BAD_LENGTHS;
    }
    return BPTT_OK;
}

int bptt_check_truncation(const bptt_setting *setting, int has_cec) {
    switch (setting->truncation) {
    case BPTT_FULL:
        return BPTT_OK;
    case BPTT_WINDOW:
    case BPTT_CHUNK:
        return setting->k1 >= 1 ? BPTT_OK : BPTT_BAD_OPTION;
    case BPTT_PERIODIC:
        return setting->k1 >= 1 && setting->k2 >= setting->k1 ? BPTT_OK : BPTT_BAD_OPTION;
    case BPTT_CEC:
        return has_cec ? BPTT_OK : BPTT_BAD_OPTION;
    default:
        return BPTT_BAD_OPTION;
    }
}

size_t bptt_next_sweep(unsigned char *marks, unsigned char *done, const int64_t *lengths,
                       const bptt_setting *setting) {
    const size_t B = setting->B;
    const int64_t T = (int64_t)setting->T;
    const int64_t k1 = setting->k1 < T ? setting->k1 : T; /* a k beyond T acts as T does */
    const int64_t k2 = setting->k2 < T ? setting->k2 : T;
    size_t entered = 0;
    for (size_t b = 0; b < B; b++) {
        int64_t running = T; /* the floor of the group on its way; T: none is */
        for (int64_t t = T; t >= 1; t--) {
            const size_t n = (size_t)(t - 1) * B + b;
            const int carries = t > running;
            unsigned char mark = carries ? BPTT_CARRY : 0;
            if (t <= lengths[b] && !done[n]) {
                const int64_t floor = mask_floor(t, lengths[b], setting->truncation, k1, k2);
                if (!carries || floor == running) {
                    running = floor;
                    mark |= BPTT_INJECT;
                    done[n] = 1;
                    entered++;
                }
            }
            marks[n] = mark;
        }
    }
    return entered;
}

int bptt_step_is_live(const unsigned char *marks, size_t B) {
    for (size_t b = 0; b < B; b++) {
        if (marks[b]) return 1;
    }
    return 0;
}
