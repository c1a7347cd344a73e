#pragma once
// Prefix sums in a block.

#include "common.cuh"

// Exclusive sums of counts[0..n), and the total in counts[n]. Each thread sums a few, and one warp
// scans the sums of all: barriers of the block cost more than its other threads would save.
__device__ __forceinline__ void scan(int* counts, int n) {
    constexpr int THREADS = 512, LANES = 32;
    __shared__ int sums[THREADS + LANES];  // a gap for each lane keeps their banks apart
    __shared__ int scanned[2][LANES];
    const int t = threadIdx.x, threads = blockDim.x, lanes = threads < LANES ? 1 : LANES;
    const int few = (n + lanes - 1) / lanes, most = threads / lanes;
    const int per = few < 1 ? 1 : few < most ? few : most;  // threads whose sums a lane scans
    const int each = (n + lanes * per - 1) / (lanes * per);
    const int begin = t * each < n ? t * each : n, end = begin + each < n ? begin + each : n;
    int sum = 0;
    for (int i = begin; i < end; ++i) sum += counts[i];
    if (t < lanes * per) sums[t + t / per] = sum;
    __syncthreads();
    if (t < lanes) {
        int* const mine = sums + t * (per + 1);
        int all = 0;
        for (int i = 0; i < per; ++i) all += mine[i];
        scanned[0][t] = all;
        __syncwarp();
        int from = 0;
        for (int step = 1; step < lanes; step *= 2, from ^= 1) {
            scanned[from ^ 1][t] = scanned[from][t] + (t >= step ? scanned[from][t - step] : 0);
            __syncwarp();
        }
        int before = scanned[from][t] - all;
        for (int i = 0; i < per; ++i) {
            const int here = mine[i];
            mine[i] = before;
            before += here;
        }
        if (t == lanes - 1) counts[n] = before;
    }
    __syncthreads();
    int before = t < lanes * per ? sums[t + t / per] : 0;
    for (int i = begin; i < end; ++i) {
        const int here = counts[i];
        counts[i] = before;
        before += here;
    }
    __syncthreads();
}
