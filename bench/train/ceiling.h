/* bench/train/ceiling.h - the core's fp32 ceiling. Each burst does `rounds` rounds of independent
 * multiply-adds and returns how many that were. */
#ifndef BENCH_TRAIN_CEILING_H
#define BENCH_TRAIN_CEILING_H

double ceiling_burst__portable(long rounds);
double ceiling_burst__avx2(long rounds);
double ceiling_burst__avx512(long rounds);

#endif
