// The gradient of resampling. What each kernel computes is defined by the function of the same name
// and parameters in robocache_cupy/_cpu/backward.py.

#include "locate.cuh"

constexpr int TILE = 255;  // targets of a block of `spans`, and one more to compare the first with
constexpr int SAMPLES = 128;  // of a block of `collect`, at most

// The samples [a, b) that a target uses, and the weight.
template <typename C> struct Span {
    int64 a, b;
    C w;
};

template <typename C, typename W>
__device__ __forceinline__ Span<C> span_of(const Row<W>& row, const void* tgt_times,
                                           int64 tgt_width, int64 at, int64 step, int64 t, int64 T,
                                           int64 method, int64 left, int64 right, int64 fill,
                                           W tolerance, W nearness, W max_gap) {
    const int64 n = row.n;
    const W q = load<W>(tgt_times, tgt_width, at + t * step);
    if (n == 0 || is_nan(q)) return {n, n, (C)0};
    if (method == MEAN) {
        W before, after;
        no_time(before);
        no_time(after);
        if (t > 0) before = load<W>(tgt_times, tgt_width, at + (t - 1) * step);
        if (t + 1 < T) after = load<W>(tgt_times, tgt_width, at + (t + 1) * step);
        int64 a, b;
        row.interval(before, q, after, a, b);
        if (a < b) return {a, b, (C)1 / (C)(b - a)};
    }
    const int64 j = row.upper_bound(q);
    const int64 by = method == MEAN ? (int64)NEAREST : method;
    const W beyond = method == MEAN ? (W)0 : tolerance;
    const Locator<C, W> locate{row, by, left, right, beyond, nearness, max_gap};
    const Blend<C> blend = locate(q, j);
    const int64 i = blend.i0;
    const bool valid = blend.valid && method != MEAN;  // of an interval without a sample
    if (i < 0 || (fill && !valid)) return {j, j, (C)0};
    if (blend.w != 0) return {i, blend.i1 + 1, blend.w};
    if (method == MEAN) return {i, i + 1, (C)1};
    // Beside extrapolated targets, which use two samples, the end must not use one and so break
    // the order: the other gets the weight 0.
    if (method == LINEAR && left == EXTRAPOLATE && i == 0 && n > 1) return {0, 2, (C)0};
    if (method == LINEAR && right == EXTRAPOLATE && i > 0 && (i + 1 == n || is_nan(row.at(i + 1))))
        return {i - 1, i + 1, (C)1};
    return {i, i + 1, (C)0};
}

// One thread to a target; the first repeats the last target of the tile before.
template <typename C, typename W>
__global__ void __launch_bounds__(256, 4) spans(
    const void* __restrict__ src_times, const void* __restrict__ lengths,
    const void* __restrict__ offsets, const void* __restrict__ latencies,
    const void* __restrict__ tgt_times, int* __restrict__ begins, int* __restrict__ ends,
    C* __restrict__ weights, int* __restrict__ disorder, int64 S, int64 src_row, int64 src_step,
    int64 src_width, int64 lengths_width, int64 offsets_width, int64 latencies_width,
    int64 targets, int64 T, int64 tgt_row, int64 tgt_step, int64 tgt_width, int64 method,
    int64 left, int64 right, int64 fill, W latency, double ticks, W tolerance,
    W nearness, W max_gap) {
    __shared__ int a[TILE + 1], b[TILE + 1];
    __shared__ int descends;
    const int64 parts = (targets + TILE - 1) / TILE;
    for (int64 part = blockIdx.x; part < parts; part += gridDim.x) {
        const int64 begin = part * TILE - 1;
        const int n = (int)(targets - begin < TILE + 1 ? targets - begin : TILE + 1);
        if (threadIdx.x == 0) descends = 0;
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const int64 item = begin + i;
            if (item < 0) continue;
            const int64 r = row_of_target(item, T);
            Row<W> row = row_of<W>(r, S, src_times, nullptr, lengths, offsets, latencies, src_row,
                                   src_step, src_width, lengths_width, offsets_width,
                                   latencies_width, latency, 0, 0.0, ticks);
            const Span<C> span = span_of<C, W>(row, tgt_times, tgt_width, r * tgt_row, tgt_step,
                                               item - r * T, T, method, left, right, fill,
                                               tolerance, nearness, max_gap);
            a[i] = (int)span.a;
            b[i] = (int)span.b;
            if (i > 0) {
                begins[item] = a[i];
                ends[item] = b[i];
                weights[item] = span.w;
            }
        }
        __syncthreads();
        for (int i = 1 + threadIdx.x; i < n; i += blockDim.x) {
            const int64 item = begin + i;
            const bool leads = item - row_of_target(item, T) * T == 0;
            if (!leads && (a[i] < a[i - 1] || b[i] < b[i - 1])) descends = 1;
        }
        __syncthreads();
        if (threadIdx.x == 0) disorder[part] = descends;
        __syncthreads();
    }
}

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

// The targets [begin, end) of a sample between the two phases of a block.
struct Run {
    int64 targets, grad;  // where those of the row start
    int64 begin, end, s;
};

//   targets   t t t t t     ascending, and so are the first and the last of the samples they use:
//             │╱│╱ ╲│╲│     1. a thread finds the run of targets of a sample by two searches
//   samples   s s   s s     2. all threads add up their rows, V features at a time, in order
template <typename X, typename Y, int V>
__global__ void __launch_bounds__(256, 5) collect(
    const X* __restrict__ grad, const void* __restrict__ lengths, const void* __restrict__ offsets,
    const int* __restrict__ begins, const int* __restrict__ ends,
    const Computed<X, Y>* __restrict__ weights, const int* __restrict__ disorder,
    Y* __restrict__ out, int64 items, int64 S, int64 B, int64 T, int64 D, int64 lengths_width,
    int64 offsets_width, int64 grad_row, int64 grad_step, int64 method, int64 block) {
    typedef Computed<X, Y> C;
    __shared__ Run runs[SAMPLES];
    __shared__ int descends;
    for (int64 from = (int64)blockIdx.x * block; from < items; from += (int64)gridDim.x * block) {
        const int n = (int)(items - from < block ? items - from : block);
        if (threadIdx.x == 0) descends = 0;
        __syncthreads();
        if (B > 0 && T > 0) {
            const int64 top = clamp(row_of_sample(offsets, offsets_width, S, B, from), 0, B - 1);
            const int64 bottom =
                clamp(row_of_sample(offsets, offsets_width, S, B, from + n - 1), top, B - 1);
            const int64 end = (bottom * T + T - 1) / TILE;
            for (int64 part = top * T / TILE + threadIdx.x; part <= end; part += blockDim.x)
                if (disorder[part]) descends = 1;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const int64 b = row_of_sample(offsets, offsets_width, S, B, from + i);
            Run run{b * T, b * grad_row, 0, 0, 0};
            if (b >= 0 && b < B && T > 0) {
                int64 real = S;
                run.s = from + i - b * S;
                if (offsets) {
                    const int64 first = clamp(load<int64>(offsets, offsets_width, b), 0, S);
                    real = load<int64>(offsets, offsets_width, b + 1) - first;
                    real = clamp(real, 0, S - first);
                    run.s = from + i - first;
                } else if (lengths) {
                    real = clamp(load<int64>(lengths, lengths_width, b), 0, S);
                }
                if (run.s < real && descends) {
                    run.end = T;
                } else if (run.s < real) {
                    run.begin = first_above(ends + run.targets, T, run.s);
                    run.end = first_above(begins + run.targets, T, run.s);
                }
            }
            runs[i] = run;
        }
        __syncthreads();
        const int packs = (int)(D / V), width = blockDim.x;
        const int rows = packs < width && packs > 0 ? width / packs : 1;  // summed at once
        const int own = packs < width && packs > 0 ? threadIdx.x / packs : 0;
        for (int column = threadIdx.x - own * packs; own < rows && column < packs;
             column += width) {
            for (int i = own; i < n; i += rows) {
                const Run run = runs[i];
                C total[V];
#pragma unroll
                for (int v = 0; v < V; ++v) total[v] = 0;
                for (int64 t = run.begin; t < run.end; ++t) {
                    const int64 a = begins[run.targets + t];
                    if (a > run.s || ends[run.targets + t] <= run.s) continue;
                    C w = weights[run.targets + t];
                    if (method != MEAN && a == run.s) w = 1 - w;
                    if (w == 0) continue;
                    const Pack<X, V> g =
                        load_pack<X, V>(grad + run.grad + t * grad_step + (int64)column * V);
#pragma unroll
                    for (int v = 0; v < V; ++v) total[v] += w * widen<C>(g.at[v]);
                }
                Pack<Y, V> y;
#pragma unroll
                for (int v = 0; v < V; ++v) y.at[v] = Narrow<Y>::of(total[v]);
                store_pack<Y, V>(out + (from + i) * D + (int64)column * V, y);
            }
            if (packs < width) break;
        }
        __syncthreads();
    }
}
