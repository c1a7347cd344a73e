// Rotations of whole arrays. What each kernel computes is defined by the function of the same name
// and parameters in robocache_cupy/_cpu/pose.py.

#include "rotation.cuh"

// The four elements of a quaternion, V to an access.
template <typename X, int V> __device__ __forceinline__ Pack<X, 4> load_four(const X* q) {
    Pack<X, 4> four;
#pragma unroll
    for (int i = 0; i < 4; i += V) {
        const Pack<X, V> pack = load_pack<X, V>(q + i);
#pragma unroll
        for (int v = 0; v < V; ++v) four.at[i + v] = pack.at[v];
    }
    return four;
}
template <typename X, int V> __device__ __forceinline__ void store_four(X* q, const Pack<X, 4>& x) {
#pragma unroll
    for (int i = 0; i < 4; i += V) {
        Pack<X, V> pack;
#pragma unroll
        for (int v = 0; v < V; ++v) pack.at[v] = x.at[i + v];
        store_pack<X, V>(q + i, pack);
    }
}

template <typename C, typename X>
__device__ __forceinline__ Quaternion<C> of_four(const Pack<X, 4>& x) {
    return {widen<C>(x.at[0]), widen<C>(x.at[1]), widen<C>(x.at[2]), widen<C>(x.at[3])};
}

// A pair per thread. Up to four axes of pairs, the last of which runs fastest; an array that is
// broadcast along one has a step of 0 there.
template <typename X, typename T, int V>
__global__ void __launch_bounds__(256)
    slerp(const X* __restrict__ q0, const X* __restrict__ q1, const T* __restrict__ t, X* out,
          int64 items, int64 axes, int64 size1, int64 size2, int64 size3, int64 q0_step0,
          int64 q0_step1, int64 q0_step2, int64 q0_step3, int64 q1_step0, int64 q1_step1,
          int64 q1_step2, int64 q1_step3, int64 t_step0, int64 t_step1, int64 t_step2,
          int64 t_step3, int64 out_step0, int64 out_step1, int64 out_step2, int64 out_step3,
          int64 kind, int64 flags, double t_all) {
    wait_for_stream();
    typedef Computed<X, X> C;
    const int64 stride = (int64)gridDim.x * blockDim.x;
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += stride) {
        int64 at0 = item * q0_step3, at1 = item * q1_step3, at_t = item * t_step3,
              at_out = item * out_step3;
        if (axes > 1) {
            const int64 lines = quotient(item, size3), planes = quotient(lines, size2),
                        i0 = quotient(planes, size1), i1 = planes - i0 * size1,
                        i2 = lines - planes * size2, i3 = item - lines * size3;
            at0 = i0 * q0_step0 + i1 * q0_step1 + i2 * q0_step2 + i3 * q0_step3;
            at1 = i0 * q1_step0 + i1 * q1_step1 + i2 * q1_step2 + i3 * q1_step3;
            at_t = i0 * t_step0 + i1 * t_step1 + i2 * t_step2 + i3 * t_step3;
            at_out = i0 * out_step0 + i1 * out_step1 + i2 * out_step2 + i3 * out_step3;
        }
        const Quaternion<C> a = of_four<C>(load_four<X, V>(q0 + at0)),
                            b = of_four<C>(load_four<X, V>(q1 + at1));
        const C w = t ? widen<C>(t[at_t]) : (C)t_all;
        bool defined;
        const Quaternion<C> q = between(unit(in_order((int)kind, a)), unit(in_order((int)kind, b)),
                                        w, (int)flags, defined);
        const Quaternion<C> y = as_stored((int)kind, q);
        store_four<X, V>(out + at_out, {Narrow<X>::of(y.x), Narrow<X>::of(y.y), Narrow<X>::of(y.z),
                                        Narrow<X>::of(y.w)});
    }
}

// A row to a block, a run of its samples to a thread:
//
//   1. each finds whether the sign flips an odd number of times in its run
//   2. these add up (modulo 2) to the sign that each run begins with
//   3. each writes its run
template <typename X, int V>
__global__ void __launch_bounds__(256)
    unwrap(const X* quat, const void* __restrict__ lengths, X* out, int64 B, int64 S,
           int64 row_step, int64 step, int64 out_row, int64 out_step, int64 lengths_width) {
    wait_for_stream();
    typedef Computed<X, X> C;
    __shared__ int odd[256];
    const int me = threadIdx.x, threads = blockDim.x;
    const int64 run = (S + threads - 1) / threads;
    const int64 begin = clamp(me * run, 0, S), end = clamp(begin + run, 0, S);
    for (int64 b = blockIdx.x; b < B; b += gridDim.x) {
        const X* x = quat + b * row_step;
        X* y = out + b * out_row;
        const int64 n = lengths ? clamp(load<int64>(lengths, lengths_width, b), 0, S) : S;
        // The result may replace the samples, so the one before the run is read but once.
        Pack<X, 4> before_run = {};
        if (begin > 0 && begin < S) before_run = load_four<X, V>(x + (begin - 1) * step);

        Quaternion<C> before = of_four<C>(before_run);
        int flipped = 0;
#pragma unroll 2
        for (int64 s = begin; s < end; ++s) {
            const Quaternion<C> q = of_four<C>(load_four<X, V>(x + s * step));
            if (s > 0 && s < n && dot(q, before) < 0) flipped ^= 1;
            before = q;
        }
        odd[me] = flipped;
        __syncthreads();
        for (int distance = 1; distance < threads; distance *= 2) {
            const int other = me >= distance ? odd[me - distance] : 0;
            __syncthreads();
            odd[me] ^= other;
            __syncthreads();
        }
        flipped = me > 0 ? odd[me - 1] : 0;
        before = of_four<C>(before_run);
#pragma unroll 2
        for (int64 s = begin; s < end; ++s) {
            Pack<X, 4> four = load_four<X, V>(x + s * step);
            const Quaternion<C> q = of_four<C>(four);
            if (s > 0 && s < n && dot(q, before) < 0) flipped ^= 1;
            before = q;
            if (flipped && s < n) {
                four = {Narrow<X>::of(-q.x), Narrow<X>::of(-q.y), Narrow<X>::of(-q.z),
                        Narrow<X>::of(-q.w)};
            }
            store_four<X, V>(y + s * out_step, four);
        }
        __syncthreads();
    }
}
