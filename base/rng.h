/* base/rng.h - counter-based random numbers: Philox4x32-10.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A
 * draw is a pure function of (seed, purpose, epoch, index): no state, so order, thread count, batch
 * size, device and a resume in mid-epoch cannot change it. Header only, libc free, usable from
 * CUDA: CPU and GPU draw the same bits.
 */
#ifndef CINCH_BASE_RNG_H
#define CINCH_BASE_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define CN_RNG_FN static __host__ __device__ __forceinline__
#else
#define CN_RNG_FN static inline
#endif

/* What a stream of draws is for. Append only: checkpoints and job keys depend on the numbers. */
enum cn_rng_purpose {
    CN_RNG_INIT = 1,    /* weight initialisation; index = element of the flat parameter vector */
    CN_RNG_SHUFFLE = 2, /* epoch permutation */
    CN_RNG_DROPOUT =
        3, /* index = layer << 40 | (position of the row in the epoch) * width + element */
    CN_RNG_AUGMENT = 4, /* index = position of the row in the epoch << 8 | which augmentation */
    CN_RNG_MIXUP = 5,
    CN_RNG_CALIBRATE = 6, /* choice of calibration records */
    CN_RNG_SPLIT = 7,     /* random splits of a dataset */
    CN_RNG_BOOTSTRAP = 8,
    CN_RNG_NOISE = 9,
};

typedef struct {
    uint32_t v[4];
} cn_rng4;

/* 128 random bits for counter (index, epoch, purpose) under key `seed`. */
CN_RNG_FN cn_rng4 cn_rng(uint64_t seed, uint32_t purpose, uint32_t epoch, uint64_t index)
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = epoch, c3 = purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    cn_rng4 r;
    r.v[0] = c0;
    r.v[1] = c1;
    r.v[2] = c2;
    r.v[3] = c3;
    return r;
}

/* Uniform in [0, 1), 24 bits, exact in float. */
CN_RNG_FN float cn_rng_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * (1.0f / 16777216.0f);
}

/* Where position i of epoch `epoch` looks in a shuffled set of n records: a bijection of [0, n),
 * computed without storing a permutation. Four-round Feistel network on the next even number of
 * bits, walked until it lands in range (Black & Rogaway, "Ciphers with arbitrary finite domains",
 * 2002). i < n, n < 2^31. */
CN_RNG_FN uint32_t cn_rng_shuffle(uint64_t seed, uint32_t epoch, uint32_t i, uint32_t n)
{
    uint32_t half = 1;
    while (((uint64_t)1 << (2 * half)) < n) half++;
    uint32_t mask = (1u << half) - 1, x = i;
    do {
        uint32_t l = x >> half, r = x & mask;
        for (uint32_t round = 0; round < 4; round++) {
            cn_rng4 f = cn_rng(seed, CN_RNG_SHUFFLE, epoch, (uint64_t)round << 32 | r);
            uint32_t t = l ^ (f.v[0] & mask);
            l = r;
            r = t;
        }
        x = l << half | r;
    } while (x >= n);
    return x;
}

#endif
