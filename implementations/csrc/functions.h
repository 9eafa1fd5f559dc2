/* functions.h: exp, tanh and the logistic function, a vector at a time. Included by kernel.h: REAL, FN and vector.h.

   With n the integer nearest to a/ln 2,

       r = a - n ln 2,   exp(a) = 2^n (1 + p),   p = exp(r) - 1                        (1)
       p = r + r^2 q(r),   q(r) near (exp(r) - 1 - r)/r^2 for |r| <= ln(2)/2           (2)
       tanh(a) = sign(a) (-m)/(2 + m),   m = exp(-2|a|) - 1 = 2^n p + (2^n - 1)        (3)
       sigma(a) = 1/(1+e) for a >= 0, e/(1+e) for a < 0,   e = exp(-|a|)               (4)

   Nothing cancels: p is relatively accurate near 0, and so is (3). 2^n is multiplied in as two factors, so that a
   subnormal result is rounded once. NaN goes through every line; tanh keeps the sign of zero. How accurate they are
   is in tests/csrc/test_functions.py. The end of an array goes through a padded vector, so that a result does not
   depend on where an entry stands. */

/* 2^n, where a = n + ROUNDER and n is the exponent of a normal number */
ALWAYS_INLINE FN(vec) FN(power_of_two)(FN(vec) a) {
    return FN(from_bits)((FN(bits_of)(a) << MANTISSA) + (REAL_BITS)ONE_BITS);
}

/* exp(r) - 1 of (2) */
ALWAYS_INLINE FN(vec) FN(small_expm1)(FN(vec) r) { return r + r * r * EXPM1_Q(r); }

ALWAYS_INLINE FN(vec) FN(exp_vec)(FN(vec) a) {
    const FN(vec) low = FN(all)(-EXP_LIMIT), high = FN(all)(EXP_LIMIT);
    a = FN(select)(LESS(a, low), low, FN(select)(LESS(high, a), high, a));
    const FN(vec) n = a * LOG2_E + ROUNDER - ROUNDER;
    const FN(vec) r = a - n * LN2_HI - n * LN2_LO; /* (1) */
    const FN(vec) half = n * (REAL)0.5 + ROUNDER, rest = n - (half - ROUNDER) + ROUNDER;
    return (1 + FN(small_expm1)(r)) * FN(power_of_two)(half) * FN(power_of_two)(rest);
}

ALWAYS_INLINE FN(vec) FN(tanh_vec)(FN(vec) a) {
    const FN(mask) sign = FN(bits_of)(FN(all)((REAL)-0.0)), signed_bits = FN(bits_of)(a);
    const FN(vec) low = FN(all)(-TANH_LIMIT), twice = 2 * FN(from_bits)(signed_bits | sign); /* -2|a| */
    const FN(vec) bounded = FN(select)(LESS(twice, low), low, twice);
    const FN(vec) rounded = bounded * LOG2_E + ROUNDER, n = rounded - ROUNDER;
    const FN(vec) r = bounded - n * LN2_HI - n * LN2_LO, power = FN(power_of_two)(rounded); /* (1) */
    const FN(vec) m = power * FN(small_expm1)(r) + (power - 1);
    return FN(from_bits)((FN(bits_of)(m / (2 + m)) & ~sign) | (signed_bits & sign)); /* (3) */
}

ALWAYS_INLINE FN(vec) FN(sigma_vec)(FN(vec) a) {
    const FN(vec) e = FN(exp_vec)(FN(from_bits)(FN(bits_of)(a) | FN(bits_of)(FN(all)((REAL)-0.0))));
    return FN(select)(LESS(a, FN(all)(0)), e, FN(all)(1)) / (1 + e); /* (4) */
}

#define MAP(function)                                                                                          \
    static void FN(map_##function)(REAL *y,       /* out (N,), may be a */                                     \
                                   const REAL *a, /* (N,) */                                                   \
                                   size_t N) {                                                                 \
        size_t n = 0;                                                                                          \
        for (; n + FN(LANES) <= N; n += FN(LANES)) FN(store)(y + n, FN(function##_vec)(FN(load)(a + n)));      \
        if (n == N) return;                                                                                    \
        REAL rest[FN(LANES)] = {0};                                                                            \
        memcpy(rest, a + n, (N - n) * sizeof(REAL));                                                           \
        FN(store)(rest, FN(function##_vec)(FN(load)(rest)));                                                   \
        memcpy(y + n, rest, (N - n) * sizeof(REAL));                                                           \
    }
MAP(exp)
MAP(tanh)
MAP(sigma)
#undef MAP
