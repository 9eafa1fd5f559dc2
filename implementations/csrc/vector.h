/* vector.h: a few numbers side by side, whatever the processor calls them. Included by kernel.h after a real_*.h.

   With GCC and Clang a vec holds VECTOR_BYTES bytes and its operators work lane by lane; other compilers get one
   number a vec and the same text. A mask is the result of a comparison: all bits of a lane or none.
   UNROLL stands before a loop whose count is a small constant and whose arrays are meant to be registers. */
#if defined(__GNUC__)
typedef REAL FN(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL_BITS FN(mask) __attribute__((vector_size(VECTOR_BYTES)));
enum { FN(LANES) = VECTOR_BYTES / sizeof(REAL) };
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define LESS(a, b) ((FN(mask))((a) < (b)))
#define UNROLL _Pragma("GCC unroll 16")
#define PREFETCH(address) __builtin_prefetch((const void *)(address), 0, 2) /* into the second level of cache */
#else
typedef REAL FN(vec);
typedef REAL_BITS FN(mask);
enum { FN(LANES) = 1 };
#define ALWAYS_INLINE static inline
#define LESS(a, b) ((FN(mask))0 - (FN(mask))((a) < (b)))
#define UNROLL
#define PREFETCH(address) ((void)(address))
#endif

ALWAYS_INLINE FN(vec) FN(load)(const REAL *p) {
    FN(vec) v;
    memcpy(&v, p, sizeof v);
    return v;
}

ALWAYS_INLINE void FN(store)(REAL *p, FN(vec) v) { memcpy(p, &v, sizeof v); }

ALWAYS_INLINE FN(mask) FN(bits_of)(FN(vec) v) {
    FN(mask) bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

ALWAYS_INLINE FN(vec) FN(from_bits)(FN(mask) bits) {
    FN(vec) v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The same number in every lane. */
ALWAYS_INLINE FN(vec) FN(all)(REAL a) { return a - (FN(vec)){0}; } /* not +: -0 stays -0 */

/* a where the mask is set, b elsewhere */
ALWAYS_INLINE FN(vec) FN(select)(FN(mask) mask, FN(vec) a, FN(vec) b) {
    return FN(from_bits)((mask & FN(bits_of)(a)) | (~mask & FN(bits_of)(b)));
}
