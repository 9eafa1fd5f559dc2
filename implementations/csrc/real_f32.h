/* real_f32.h: float32, as the kernel sees it: its type, the bits of a number, and the constants of functions.h.

   EXPM1_Q is a minimax polynomial of degree 5 by Remez's exchange for |r| <= 0.3473, off by 1.4e-9 before its
   coefficients were rounded. LN2_HI has 15 zeros at its end, so that n LN2_HI
   is exact for |n| < 2^15. */
#define REAL float
#define REAL_BITS uint32_t
#define MANTISSA 23
#define ROUNDER 0x1.8p+23f    /* a + ROUNDER holds the integer nearest to a in its last bits */
#define ONE_BITS 0x3f800000u
#define LOG2_E 0x1.715476p+0f
#define LN2_HI 0x1.63p-1f
#define LN2_LO -0x1.bd0106p-13f
#define EXP_LIMIT 110.0f      /* exp is 0 or infinite beyond */
#define TANH_LIMIT 20.0f      /* 1 - tanh(a/2) is below 2^-25 for a beyond */
/* q(r) of (2) in functions.h */
#define EXPM1_Q(r)                                                                                              \
    (0x1p-1f + (r) * (0x1.555556p-3f + (r) * (0x1.5554e8p-5f + (r) * (0x1.1110aap-7f +                         \
    (r) * (0x1.6d444ep-10f + (r) * 0x1.a17f68p-13f)))))
