/* functions.c: exp, log, tanh and the sigmoid of balls, and the inner loop of products; pairs.h has the arithmetic.

   exp(a) = 2^k (1 + expm1(r)), a = k log 2 + r, |r| <= 0.35, s = r/64:

       expm1(s) = s (1 + s/2 (1 + s/3 (1 + s/4 (1 + s/5 (1 + s/6 (1 + s/7 q))))))                  (1)
       q = 1 + s/8 (1 + s/9 (1 + s/10 (1 + s/11 (1 + s/12 ...))))                                  (2)
       expm1(2 s) = expm1(s) (expm1(s) + 2), six times                                             (3)

   (2) is summed in float64 as far as it stands, and granted 2^-48: its roundings are below 2^-51, and what is left out,
   7! s^6/13!, is below 2^-65. Within (1) it counts less than 2^-57. Everything else is in balls.
   log: with y near log(a) and d = a exp(-y) - 1, log(a) = y + log1p(d), and |log1p(d) - d + d^2/2| <= |d|^3 for
   |d| <= 1/2. The first y comes from the C library, and no bound rests on it.
   tanh(a) = -m/(2 + m), m = expm1(-2a), for a >= 0; phi' from e = exp(-2 |a|) or exp(-|a|), never as a difference. */
#include "pairs.h"

static const double PER_LOG2 = 1.4426950408889634, LOG2_1 = 0x1.62e42fefa2p-1, LOG2_2 = 0x1.9ef35793c6p-41;
static const ball LOG2_3 = {0x1.673007e5ed5e8p-81, 0x1.e6864ce5316c6p-137, 0x1p-190};
static const ball PER_3 = {0x1.5555555555555p-2, 0x1.5555555555555p-56, 0x1p-109};
static const ball PER_5 = {0x1.999999999999ap-3, -0x1.999999999999ap-57, 0x1p-110};
static const ball PER_6 = {0x1.5555555555555p-3, 0x1.5555555555555p-57, 0x1p-110};
static const ball PER_7 = {0x1.2492492492492p-3, 0x1.2492492492492p-57, 0x1p-110};
static const double FAR = 0x1p-900; /* more than exp of what is left of -680 */

/* (1) for |s| <= 0.0055, at least 2^-126. */
static ball series(ball s) {
    const double x = s.hi, tail = 1 + x / 8 * (1 + x / 9 * (1 + x / 10 * (1 + x / 11 * (1 + x / 12))));
    const ball one = exactly(1.0);
    ball sum = plus(one, times(times(s, PER_7), (ball){tail, 0.0, 0x1p-48}));
    sum = plus(one, times(times(s, PER_6), sum));
    sum = plus(one, times(times(s, PER_5), sum));
    sum = plus(one, times(scaled(s, -2), sum));
    sum = plus(one, times(times(s, PER_3), sum));
    sum = plus(one, times(scaled(s, -1), sum));
    return times(s, sum);
}

/* expm1(r) and k of (1), for |a| <= 700 whose radius is at most 1/4. */
static ball reduced(ball a, int *k) {
    *k = 0;
    if (!(fabs(a.hi) <= 700 && a.rad <= 0.25)) return unknown();
    const double n = nearbyint(a.hi * PER_LOG2);
    ball r = {a.hi, a.lo, 0.0};
    if (n != 0) { /* n has 10 bits, LOG2_1 and LOG2_2 have 40: their products are exact */
        r = minus(plus(plus(r, exactly(-n * LOG2_1)), exactly(-n * LOG2_2)), times(LOG2_3, exactly(n)));
    }
    *k = (int)n;
    ball m = r;
    if (fabs(r.hi) >= 0x1p-120) {
        m = series(scaled(r, -6));
        for (int i = 0; i < 6; i++) m = times(m, plus(m, exactly(2.0))); /* (3) */
    } else if (r.hi != 0) { /* |expm1(r) - r| <= r^2 */
        m.rad = (m.rad + 0x1p-118 * fabs(r.hi) + TINY) * ABOVE;
    }
    if (a.rad != 0) { /* |exp(r + d) - exp(r)| <= exp(r) (|d| + d^2) */
        m.rad = (m.rad + (1 + size_of(m) + m.rad) * (a.rad + a.rad * a.rad) + TINY) * ABOVE;
    }
    return m;
}

ball exp_of(ball a) {
    if (a.hi < -680 && a.rad <= 0.25) return (ball){0.0, 0.0, FAR};
    int k;
    const ball m = reduced(a, &k);
    return scaled(plus(m, exactly(1.0)), k);
}

ball log_of(ball a) {
    if (!(a.hi > 0 && a.rad <= a.hi / 8)) return unknown();
    const ball y = exactly(log(a.hi)), bare = {a.hi, a.lo, 0.0};
    const ball d = minus(times(bare, exp_of(negative(y))), exactly(1.0));
    const double size = size_of(d) + d.rad;
    if (!(size <= 0x1p-20)) return unknown();
    ball sum = minus(plus(y, d), scaled(times(d, d), -1));
    if (size != 0) sum.rad = (sum.rad + size * size * size + TINY) * ABOVE;
    if (a.rad != 0) { /* |log(1 + q)| <= |q| + q^2 for |q| <= 1/4 */
        const double q = a.rad / (a.hi * (1 - 0x1p-50));
        sum.rad = (sum.rad + q + q * q + TINY) * ABOVE;
    }
    return sum;
}

ball tanh_of(ball a, ball *slope) {
    const ball size = a.hi < 0 ? negative(a) : a;
    if (size.hi > 340 && a.rad <= 0.25) {
        *slope = (ball){0.0, 0.0, FAR};
        return (ball){a.hi < 0 ? -1.0 : 1.0, 0.0, FAR};
    }
    int k;
    ball m = reduced(scaled(negative(size), 1), &k), e = plus(m, exactly(1.0));
    if (k != 0) {
        e = scaled(e, k);
        m = minus(e, exactly(1.0));
    }
    const ball both = plus(m, exactly(2.0)), value = over(negative(m), both);
    *slope = over(scaled(e, 2), times(both, both));
    return a.hi < 0 ? negative(value) : value;
}

ball sigmoid_of(ball a, ball *slope) {
    const ball size = a.hi < 0 ? negative(a) : a;
    if (size.hi > 680 && a.rad <= 0.25) {
        *slope = (ball){0.0, 0.0, FAR};
        return (ball){a.hi < 0 ? 0.0 : 1.0, 0.0, FAR};
    }
    const ball e = exp_of(negative(size)), both = plus(e, exactly(1.0));
    *slope = over(e, times(both, both));
    return over(a.hi < 0 ? e : exactly(1.0), both);
}

/* As plus(sum, times(a, b)), with what is the same for all j taken out, and without branches. */
void add_multiple(balls sum, ball a, balls b, size_t n) {
    if (is_zero(a)) return;
    const double big_a = 134217729.0 * a.hi, a1 = big_a - (big_a - a.hi), a2 = a.hi - a1, size = size_of(a);
    const double by_a_low = a.lo != 0 || a.rad != 0 ? TINY : 0.0, by_a_high = a.hi != 0 ? TINY : 0.0;
    double *const hi = sum.hi, *const lo = sum.lo, *const rad = sum.rad;
    for (size_t j = 0; j < n; j++) {
        const double x = b.hi[j], y = b.lo[j], r = b.rad[j], p = a.hi * x, big = 134217729.0 * x;
        const double b1 = big - (big - x), b2 = x - b1, e = ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2;
        const double by_a = a.hi * y, by_b = a.lo * x;
        double f, g, h, i, low;
        const double rest = two_sum(e, by_a + by_b, &f), t = two_sum(hi[j], p, &g), v = two_sum(g, rest, &h);
        const double w = two_sum(lo[j], v, &i), z = two_sum(t, w, &low);
        double lost = fabs(f) + fabs(h) + fabs(i) + 0x1p-51 * (fabs(by_a) + fabs(by_b)) + fabs(a.lo * y);
        lost += size * r + (fabs(x) + fabs(y) + r) * a.rad;
        lost += (x != 0) | (y != 0) | (r != 0) ? by_a_low : 0.0;
        lost += (y != 0) | (r != 0) ? TINY : 0.0;
        lost += (fabs(p) < SMALL) & (x != 0) ? by_a_high : 0.0;
        hi[j] = z;
        lo[j] = low;
        rad[j] = (rad[j] + lost) * ABOVE;
    }
}
