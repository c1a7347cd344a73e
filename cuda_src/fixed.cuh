#pragma once
// Sums of floating-point numbers that do not depend on the order of the terms.
//
// Terms are added as int64, at a scale that the largest of them and their number allow: for every
// voxel and channel its own, so that an outlier elsewhere costs nothing. Integers may be added in
// any order.

#include "common.cuh"

constexpr int ZEROS = -5000, NOT_FINITE = 5000;  // no exponents

// The power of two that is greater than a number.
__device__ __forceinline__ int exponent_of(double x) {
    const uint64 bits = __double_as_longlong(x) & 0x7fffffffffffffffull;
    if (bits == 0) return ZEROS;
    const int exponent = (int)(bits >> 52);
    return exponent == 2047 ? NOT_FINITE : exponent - 1022;
}

__device__ __forceinline__ double power_of_two(int exponent) {
    return __longlong_as_double((int64)(exponent + 1023) << 52);
}

// x * 2^exponent, whose power of two may be none that a double holds.
__device__ __forceinline__ double scaled(double x, int exponent) {
    const int half = exponent / 2;
    return x * power_of_two(half) * power_of_two(exponent - half);
}

// `count` terms below 2^exponent then have a sum below 2^62.
__device__ __forceinline__ int scale_of(int count, int exponent) {
    return 62 - (32 - __clz(count)) - exponent;
}
