/* real_f64.h: float64, as the kernel sees it: its type, the bits of a number, and the constants of functions.h.

   EXPM1_Q is a minimax polynomial of degree 10 by Remez's exchange for |r| <= 0.3473, off by 1.4e-18. LN2_HI has 21 zeros at its end, so that n LN2_HI is exact for |n| < 2^21. */
#define REAL double
#define REAL_BITS uint64_t
#define MANTISSA 52
#define ROUNDER 0x1.8p+52     /* a + ROUNDER holds the integer nearest to a in its last bits */
#define ONE_BITS 0x3ff0000000000000u
#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HI 0x1.62e42feep-1
#define LN2_LO 0x1.a39ef35793c76p-33
#define EXP_LIMIT 800.0       /* exp is 0 or infinite beyond */
#define TANH_LIMIT 40.0       /* 1 - tanh(a/2) is below 2^-54 for a beyond */
/* q(r) of (2) in functions.h */
#define EXPM1_Q(r)                                                                                              \
    (0x1p-1 + (r) * (0x1.5555555555557p-3 + (r) * (0x1.5555555555558p-5 + (r) * (0x1.111111111009cp-7 +        \
    (r) * (0x1.6c16c16c15194p-10 + (r) * (0x1.a01a01ac0abe2p-13 + (r) * (0x1.a01a01ad211cep-16 +               \
    (r) * (0x1.71de01c3a71ccp-19 + (r) * (0x1.27e4cc71a28e7p-22 + (r) * (0x1.af4ecdbdc28abp-26 +               \
    (r) * 0x1.1f8be7f707991p-29))))))))))
