#pragma once
// From a sample to its targets. robocache_cupy/_cpu/backward.py defines what these do.

#include "time.cuh"

// The first of ascending numbers that is greater than s.
__device__ __forceinline__ int64 first_above(const int* values, int64 T, int64 s) {
    int64 lo = 0, hi = T;
    while (lo < hi) {
        const int64 mid = lo + (hi - lo) / 2;
        if (values[mid] > s) hi = mid;
        else lo = mid + 1;
    }
    return lo;
}

// The row that sample i is in; of a packed batch -1 or B outside its rows.
__device__ __forceinline__ int64 row_of_sample(const void* offsets, int64 offsets_width, int64 S,
                                               int64 B, int64 i) {
    if (!offsets) return row_of_target(i, S);
    int64 lo = 0, hi = B + 1;
    while (lo < hi) {
        const int64 mid = lo + (hi - lo) / 2;
        if (load<int64>(offsets, offsets_width, mid) > i) hi = mid;
        else lo = mid + 1;
    }
    return lo - 1;
}
