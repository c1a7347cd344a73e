// Points in a box, and some of them. What each kernel computes is defined by the function of the
// same name in robocache_cupy/_cpu/crop.py; the struct's fields are those of _core/table.py.

#include "cloud.cuh"
#include "scan.cuh"

// Marks the points of the box whose corners are the first six numbers of `lattice`: the lower ones
// belong to it, the upper ones do not. Clears `moved` of as many points, where it is given.
template <typename P>
__global__ void __launch_bounds__(256) crop_points(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef Coordinate<P> C;
    const int64 points = table.clouds * table.most, stride = (int64)gridDim.x * blockDim.x;
    unsigned char* const inside = (unsigned char*)table.out;
    unsigned char* const cleared = (unsigned char*)table.moved;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < points; i += stride) {
        const int64 b = i / table.most, n = i - b * table.most;
        bool in = n < count_of(table, b) && !masked(table, b, n);
        if (in) {
            C p[3];
            load_point<P>(table, b, n, p);
#pragma unroll
            for (int k = 0; k < 3; ++k)
                in &= p[k] >= (C)table.lattice[k] && p[k] < (C)table.lattice[3 + k];
        }
        inside[i] = in;
        if (cleared != nullptr) cleared[i] = 0;
    }
}

__device__ __forceinline__ unsigned mixed(unsigned x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

// Number i of a random order of 0 .. n - 1: a Feistel network permutes the numbers of an even count
// of bits, and is applied until its result is less than n. With halves of fewer than 4 bits it
// would favour some orders.
__device__ __forceinline__ int64 shuffled(int64 i, int64 n, uint64 seed, int64 cloud) {
    int half = 4;
    while ((int64)1 << 2 * half < n) ++half;
    const unsigned mask = (1u << half) - 1;
    const unsigned key = mixed((unsigned)seed ^ mixed((unsigned)(seed >> 32) + 0x9e3779b9u) ^
                               mixed((unsigned)cloud + 0x85ebca6bu));
    do {
        unsigned left = (unsigned)(i >> half), right = (unsigned)i & mask;
        for (unsigned round = 0; round < 4; ++round) {
            const unsigned next = left ^ (mixed(right + mixed(key + round)) & mask);
            left = right;
            right = next;
        }
        i = (int64)left << half | right;
    } while (i >= n);
    return i;
}

// A block lists the marked points of a cloud, in order, and draws some of them at random, none of
// them twice.
__global__ void __launch_bounds__(512) draw_points(const __grid_constant__ Cloud table) {
    wait_for_stream();
    __shared__ int counts[512 + 1];
    const int threads = blockDim.x, t = threadIdx.x;
    for (int64 b = blockIdx.x; b < table.clouds; b += gridDim.x) {
        const unsigned char* const marked = (const unsigned char*)table.mask + b * table.most;
        int* const list = (int*)table.sorted + b * table.most;
        int64* const out = (int64*)table.out + b * table.out_batch;
        const int64 each = (table.most + threads - 1) / threads;
        const int64 begin = t * each < table.most ? t * each : table.most;
        const int64 end = begin + each < table.most ? begin + each : table.most;
        int count = 0;
        for (int64 i = begin; i < end; ++i) count += marked[i] != 0;
        counts[t] = count;
        __syncthreads();
        scan(counts, threads);
        int at = counts[t];
        for (int64 i = begin; i < end; ++i)
            if (marked[i]) list[at++] = (int)i;
        __syncthreads();
        const int64 n = counts[threads];
        for (int64 k = t; k < table.out_batch; k += threads)
            out[k] = k < n ? list[shuffled(k, n, (uint64)table.one, b)] : -1;
        __syncthreads();
    }
}
