/* pairs.h: balls whose middle is the unevaluated sum of two float64: all numbers within rad of hi + lo.

   Every operation returns a ball that contains what it would give for any members of its operands. What is rounded is
   caught and added to the radius, so that no bound on a sequence of operations is needed:

       two_sum    a + b = s + e exactly, barring overflow                        Knuth; Moller
       two_prod   a b = p + e exactly, if nothing underflows or overflows        Dekker, by Veltkamp's split

   An operation on exact operands whose result fits is exact: its radius stays 0. Radii are rounded to nearest as
   everything else is; ABOVE, a factor, covers the roundings of a few terms >= 0, and TINY what underflows in them. An
   overflow makes NaN or an infinity, and a ball that has one says nothing: whoever reads it must look.
   Source: Muller et al. (2018), "Handbook of Floating-Point Arithmetic", 4.3 and 4.4, for the two transformations. */
#ifndef BPTTCHECK_PAIRS_H
#define BPTTCHECK_PAIRS_H

#include <float.h>
#include <math.h>
#include <stddef.h>

#ifdef __FAST_MATH__
#error "pairs need IEEE 754 arithmetic: compile without -ffast-math"
#endif
#if FLT_EVAL_METHOD != 0
#error "pairs need float64 operations that round to float64"
#endif

typedef struct {
    double hi, lo, rad;
} ball;

static const double ABOVE = 1 + 0x1p-48, TINY = 0x1p-1065, SMALL = 0x1p-950;

static inline double two_sum(double a, double b, double *error) {
    const double sum = a + b, of_b = sum - a;
    *error = (a - (sum - of_b)) + (b - of_b);
    return sum;
}

static inline double two_prod(double a, double b, double *error) {
    const double p = a * b, big_a = 134217729.0 * a, big_b = 134217729.0 * b;
    const double a1 = big_a - (big_a - a), a2 = a - a1, b1 = big_b - (big_b - b), b2 = b - b1;
    *error = ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2;
    return p;
}

static inline ball exactly(double value) { return (ball){value, 0.0, 0.0}; }

static inline ball unknown(void) { return (ball){NAN, 0.0, INFINITY}; }

/* At least |middle|. */
static inline double size_of(ball a) { return fabs(a.hi) + fabs(a.lo); }

static inline int is_zero(ball a) { return a.hi == 0 && a.lo == 0 && a.rad == 0; }

static inline ball negative(ball a) { return (ball){-a.hi, -a.lo, a.rad}; }

static inline ball plus(ball a, ball b) {
    double e, f, g, h, i, j;
    const double s = two_sum(a.hi, b.hi, &e), t = two_sum(a.lo, b.lo, &f);
    const double v = two_sum(e, t, &g), z = two_sum(s, v, &h); /* a + b = z + h + g + f */
    const double w = two_sum(f, g, &i), lo = two_sum(h, w, &j);
    ball sum;
    sum.hi = two_sum(z, lo, &sum.lo);
    sum.rad = (a.rad + b.rad + (fabs(i) + fabs(j))) * ABOVE;
    return sum;
}

static inline ball minus(ball a, ball b) { return plus(a, negative(b)); }

static inline ball times(ball a, ball b) {
    double e, f, g;
    const double p = two_prod(a.hi, b.hi, &e), by_a = a.hi * b.lo, by_b = a.lo * b.hi;
    const int low = a.lo != 0 || b.lo != 0, wide = a.rad + b.rad != 0;
    const int small = fabs(p) < SMALL && a.hi != 0 && b.hi != 0;
    const double rest = two_sum(e, by_a + by_b, &f);
    ball product;
    product.hi = two_sum(p, rest, &product.lo);
    g = fabs(f) + (0x1p-51 * (fabs(by_a) + fabs(by_b)) + fabs(a.lo * b.lo));
    if (wide) g += size_of(a) * b.rad + (size_of(b) + b.rad) * a.rad;
    if ((low || small || wide) && !is_zero(a) && !is_zero(b)) g += TINY;
    product.rad = g * ABOVE;
    return product;
}

static inline ball over(ball a, ball b) {
    const double first = a.hi / b.hi, least = fabs(b.hi) * (1 - 0x1p-50) - b.rad;
    const ball bare_a = {a.hi, a.lo, 0.0}, bare_b = {b.hi, b.lo, 0.0};
    const ball left = minus(bare_a, times(bare_b, exactly(first)));
    const double second = left.hi / b.hi;
    const ball rest = minus(left, times(bare_b, exactly(second))); /* a = (first + second) b + rest */
    ball quotient;
    if (!(least > 0)) return unknown();
    quotient.hi = two_sum(first, second, &quotient.lo);
    quotient.rad = size_of(rest) + rest.rad + a.rad + size_of(quotient) * b.rad;
    if (quotient.rad != 0) quotient.rad = (quotient.rad / least + TINY) * ABOVE;
    return quotient;
}

/* By a power of two. */
static inline ball scaled(ball a, int power) {
    const ball out = {ldexp(a.hi, power), ldexp(a.lo, power), ldexp(a.rad, power)};
    const int changed = power < 0 && (fabs(out.hi) < SMALL || (out.lo != 0 && fabs(out.lo) < SMALL));
    return (ball){out.hi, out.lo, changed && size_of(a) + a.rad != 0 ? out.rad + TINY : out.rad};
}

/* functions.c. A result that says nothing, where an argument is too large or too wide. */
ball exp_of(ball a);
ball log_of(ball a);
/* phi(a), and phi'(a), with full relative accuracy at both ends. */
ball tanh_of(ball a, ball *slope);
ball sigmoid_of(ball a, ball *slope);

/* Balls that stand one after another, as three planes. */
typedef struct {
    double *hi, *lo, *rad;
} balls;

static inline balls at(balls all, size_t i) { return (balls){all.hi + i, all.lo + i, all.rad + i}; }
static inline ball get(balls all, size_t i) { return (ball){all.hi[i], all.lo[i], all.rad[i]}; }
static inline void put(balls all, size_t i, ball value) {
    all.hi[i] = value.hi, all.lo[i] = value.lo, all.rad[i] = value.rad;
}

/* sum[j] += a b[j] for j < n. */
void add_multiple(balls sum, ball a, balls b, size_t n);

#endif
