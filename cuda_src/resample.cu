// Trajectories on another clock. What each kernel computes is defined by the function of the same
// name and parameters in robocache_cupy/_cpu/resample.py.

#include "common.cuh"

enum Method { LINEAR, NEAREST, PREVIOUS, NEXT };
enum Edge { HOLD, CONSTANT, EXTRAPOLATE };
enum Constant { EMPTY, NOT_A_NUMBER, AT_LEFT, AT_RIGHT, FILLED };

// ------------------------------------------------------------------------------------------- time
// W is int64 for integer clocks and double for float clocks.

constexpr int64 NAT = (int64)(1ull << 63);

__device__ __forceinline__ bool is_nan(int64 t) { return t == NAT; }
__device__ __forceinline__ bool is_nan(int) { return false; }
__device__ __forceinline__ bool is_nan(float t) { return t != t; }
__device__ __forceinline__ bool is_nan(double t) { return t != t; }

__device__ __forceinline__ int64 minus(int64 t, int64 duration) {
    return t == NAT ? t : (int64)((uint64)t - (uint64)duration);
}
__device__ __forceinline__ int minus(int t, int duration) { return t - duration; }
__device__ __forceinline__ float minus(float t, float duration) { return t - duration; }
__device__ __forceinline__ double minus(double t, double duration) { return t - duration; }

// The duration between two times in order; unsigned for integers, so that it cannot overflow.
__device__ __forceinline__ uint64 elapsed(int64 later, int64 earlier) {
    return (uint64)later - (uint64)earlier;
}
__device__ __forceinline__ double elapsed(double later, double earlier) { return later - earlier; }

// A negative limit is none.
__device__ __forceinline__ bool within(uint64 duration, int64 limit) {
    return limit < 0 || duration <= (uint64)limit;
}
__device__ __forceinline__ bool within(double duration, double limit) {
    return limit < 0 || duration <= limit;
}

__device__ __forceinline__ int64 grid_point(int64 start, int64 k, double hz, double ticks, int64) {
    if (start == NAT) return start;
    return (int64)((uint64)start + (uint64)(int64)rint((double)k * ticks / hz));
}
__device__ __forceinline__ double grid_point(double start, int64 k, double hz, double ticks,
                                             int64 width) {
    const double point = start + (double)k * ticks / hz;
    return width == 4 ? (double)(float)point : point;
}

__device__ __forceinline__ void from_seconds(double duration, double ticks, int64& out) {
    out = (int64)rint(duration * ticks);
}
__device__ __forceinline__ void from_seconds(double duration, double ticks, double& out) {
    out = duration * ticks;
}

__device__ __forceinline__ void no_time(int64& t) { t = NAT; }
__device__ __forceinline__ void no_time(double& t) { t = of_bits<double>(0x7ff8000000000000ll); }

__device__ __forceinline__ void store_time(void* times, int64 width, int64 i, int64 t) {
    if (width == 8) ((int64*)times)[i] = t;
    else ((int*)times)[i] = (int)t;
}
__device__ __forceinline__ void store_time(void* times, int64 width, int64 i, double t) {
    if (width == 8) ((double*)times)[i] = t;
    else ((float*)times)[i] = (float)t;
}

template <typename W> struct HalfOf { typedef int type; };
template <> struct HalfOf<double> { typedef float type; };
template <typename W> using Half = typename HalfOf<W>::type;  // what stamps of 4 bytes are

// The samples of one row: stamps, or a uniform clock where there are none.
template <typename W> struct Row {
    const void* stamps;
    const int64* order;  // the positions in the order of time, where stamps are not sorted
    int64 first;         // of the row's samples, among those of the batch row
    int64 n, offset, step, width;
    W start, latency;
    double hz, ticks;
    bool narrow;  // 4-byte stamps without latency, and targets of the same

    __device__ __forceinline__ int64 position(int64 i) const { return order ? order[i] : i; }

    // The effective time of the i-th sample: its stamp less the latency.
    __device__ __forceinline__ W at(int64 i) const {
        i = position(i);
        if (!stamps) return minus(grid_point(start, i, hz, ticks, width), latency);
        return minus(load<W>(stamps, width, offset + i * step), latency);
    }

    __device__ __forceinline__ bool not_after(int64 i, W q) const {
        const W t = at(i);
        return !is_nan(t) && t <= q;
    }

    // The loads of a round do not wait for one another, so 4096 stamps take six round trips to the
    // cache where a binary search takes twelve: 0.9 us of 8.9 on 8192 targets in rows of 500. With
    // six ways, 32 registers are too few.
    template <typename T, typename L> __device__ __forceinline__ int search(L q) const {
        const T* t = (const T*)stamps + offset;
        constexpr int ways = 4;
        int lo = 0, len = (int)n;
        while (len > 0) {
            const int stride = len / ways + 1;
            int below = 0;
#pragma unroll
            for (int k = 1; k < ways; ++k) {
                const int i = k * stride - 1;
                const L time = minus((L)__ldg(t + (lo + (i < len ? i : len - 1)) * step), (L)latency);
                below += i < len && !is_nan(time) && time <= q;
            }
            lo += below * stride;
            len = min(len - below * stride, stride - 1);
        }
        return lo;
    }

    // The number of samples not after q.
    __device__ int64 upper_bound(W q) const {
        if (!stamps) {  // a uniform clock needs no search, only a correction of the guess
            const double guess = ((double)q - (double)at(0)) * hz / ticks;
            int64 j = guess > 0 ? (int64)(guess < (double)n ? guess : (double)n) : 0;
            while (j < n && not_after(j, q)) ++j;
            while (j > 0 && !not_after(j - 1, q)) --j;
            return j;
        }
        if (!order && n < (1 << 30)) {
            if (width == 8) return search<W, W>(q);
            // In the stamps' own type where that is also q's: twice the rate of the wide one.
            return narrow ? search<Half<W>, Half<W>>((Half<W>)q) : search<Half<W>, W>(q);
        }
        int64 lo = 0, hi = n;
        while (lo < hi) {
            const int64 mid = lo + (hi - lo) / 2;
            if (not_after(mid, q)) lo = mid + 1;
            else hi = mid;
        }
        return lo;
    }

    // The first of the samples stamped q, of which j - 1 is the last.
    __device__ int64 first_at(int64 j, W q) const {
        int64 lo = 0, hi = j - 1;
        while (lo < hi) {
            const int64 mid = lo + (hi - lo) / 2;
            if (at(mid) < q) lo = mid + 1;
            else hi = mid;
        }
        return lo;
    }

    // The number of samples before the NaN tail.
    __device__ int64 real_samples() const {
        int64 lo = 0, hi = n;
        while (lo < hi) {
            const int64 mid = lo + (hi - lo) / 2;
            if (is_nan(at(mid))) hi = mid;
            else lo = mid + 1;
        }
        return lo;
    }
};

template <typename W>
__device__ __forceinline__ Row<W> row_of(
    int64 b, int64 S, const void* src_times, const int64* order, const void* lengths,
    const void* offsets, const void* latencies, int64 src_row, int64 src_step, int64 src_width,
    int64 lengths_width, int64 offsets_width, int64 latencies_width, W latency, W src_start,
    double src_hz, double ticks) {
    Row<W> row;
    row.first = 0;
    row.n = S;
    if (offsets) {
        row.first = clamp(load<int64>(offsets, offsets_width, b), 0, S);
        row.n = clamp(load<int64>(offsets, offsets_width, b + 1) - row.first, 0, S - row.first);
    } else if (lengths) {
        row.n = clamp(load<int64>(lengths, lengths_width, b), 0, S);
    }
    row.latency = latency;
    if (latencies) from_seconds(load<double>(latencies, latencies_width, b), ticks, row.latency);
    row.stamps = src_times;
    row.order = order ? order + (offsets ? row.first : b * S) : nullptr;
    row.offset = b * src_row + row.first * src_step;
    row.step = src_step;
    row.width = src_width;
    row.start = src_start;
    row.hz = src_hz;
    row.ticks = ticks;
    row.narrow = false;
    return row;
}

// -------------------------------------------------------------------------------------- resampling

// What a target is made of: y[i0] + w * (y[i1] - y[i0]), the sample y[i0] itself where w is 0, or
// the constant with the code -1 - i0.
template <typename C> struct Blend {
    int64 i0, i1;
    C w;
    bool valid;
};

template <typename C, typename W> struct Locator {
    const Row<W>& row;
    int64 method, left, right;
    W tolerance, nearness, max_gap;

    static __device__ __forceinline__ Blend<C> sample(int64 i, bool valid) {
        return {i, 0, (C)0, valid};
    }
    static __device__ __forceinline__ Blend<C> constant(Constant code) {
        return {-1 - (int64)code, 0, (C)0, false};
    }
    template <typename D> static __device__ __forceinline__ C ratio(D part, D whole) {
        return (C)part / (C)whole;
    }

    // q, where j samples are not after it.
    __device__ __forceinline__ Blend<C> operator()(W q, int64 j) const {
        const bool has_before = j > 0;
        W before = 0, after = 0;
        bool has_after = false;
        if (j < row.n) {
            after = row.at(j);
            has_after = !is_nan(after);
        }
        if (!(has_before || has_after)) return constant(EMPTY);
        if (is_nan(q)) return constant(NOT_A_NUMBER);
        if (has_before) {
            before = row.at(j - 1);
            if (before == q) return sample(method == NEXT ? row.first_at(j, q) : j - 1, true);
        }
        if (has_before && has_after) {
            const auto gap = elapsed(after, before);
            const bool bridged = within(gap, max_gap);
            if (method == LINEAR) {
                const C w = ratio(elapsed(q, before), gap);
                if (w == 1) return sample(j, bridged);
                return {j - 1, j, w, bridged};
            }
            const auto since = elapsed(q, before), until = elapsed(after, q);
            if (method == PREVIOUS || (method == NEAREST && since <= until))  // a tie: the earlier
                return sample(j - 1, bridged && within(since, nearness));
            return sample(j, bridged && within(until, nearness));
        }
        return has_after ? before_first(q, j, after) : after_last(q, j, before);
    }

    __device__ __forceinline__ Blend<C> before_first(W q, int64 j, W first) const {
        const auto distance = elapsed(first, q);
        if (method == NEXT)  // looks ahead, which is no extrapolation
            return sample(j, within(distance, nearness) && within(distance, max_gap));
        const bool valid = within(distance, tolerance);
        if (left == CONSTANT && !valid) return constant(AT_LEFT);
        if (left == EXTRAPOLATE && method == LINEAR && row.n > 1) {
            const W second = row.at(1);
            if (!is_nan(second) && second > first)
                return {0, 1, -ratio(distance, elapsed(second, first)), valid};
        }
        return sample(0, valid);
    }

    __device__ __forceinline__ Blend<C> after_last(W q, int64 j, W last) const {
        const auto distance = elapsed(q, last);
        if (method == PREVIOUS)
            return sample(j - 1, within(distance, nearness) && within(distance, max_gap));
        const bool valid = within(distance, tolerance);
        if (right == CONSTANT && !valid) return constant(AT_RIGHT);
        if (right == EXTRAPOLATE && method == LINEAR && j > 1) {
            const W second = row.at(j - 2);
            if (second < last) {
                const C w = ratio(elapsed(q, second), elapsed(last, second));
                if (w == 1) return sample(j - 1, valid);
                return {j - 2, j - 1, w, valid};
            }
        }
        return sample(j - 1, valid);
    }
};

// A target between the two phases of a block: where its samples are in data, and its result in out.
template <typename C> struct Target {
    int64 x0, x1, y;  // in elements
    C w;
    int code;  // of a constant, or -1
};

// The bits of a sample, or its values in another type.
template <typename X, typename Y, int V> struct Copy {
    static __device__ __forceinline__ Pack<Y, V> of(const Pack<X, V>& x) {
        typedef Computed<X, Y> C;
        Pack<Y, V> y;
#pragma unroll
        for (int v = 0; v < V; ++v) y.at[v] = Narrow<Y>::of(widen<C>(x.at[v]));
        return y;
    }
};
template <typename X, int V> struct Copy<X, X, V> {
    static __device__ __forceinline__ Pack<X, V> of(const Pack<X, V>& x) { return x; }
};

// The rows of n targets, a pack of V features at a time. A thread keeps to its columns and goes
// from target to target: a division for each pack made bfloat16 a fifth slower.
template <typename X, typename Y, int V>
__device__ __forceinline__ void write(const X* data, Y* out, const Target<Computed<X, Y>>* targets,
                                      const Y* constants, int n, int packs) {
    typedef Computed<X, Y> C;
    if (packs == 0) return;
    const int width = blockDim.x;
    const int rows = packs < width ? width / packs : 1;  // that the block writes at once
    const int row = packs < width ? threadIdx.x / packs : 0;
    if (row >= rows) return;
    for (int column = threadIdx.x - row * packs; column < packs; column += width) {
        const int64 d = (int64)column * V;
        for (int i = row; i < n; i += rows) {
            const C w = targets[i].w;
            Pack<Y, V> y;
            if (targets[i].code >= 0) {
#pragma unroll
                for (int v = 0; v < V; ++v) y.at[v] = constants[targets[i].code];
            } else {
                const Pack<X, V> x0 = load_pack<X, V>(data + targets[i].x0 + d);
                if (w == 0) {
                    y = Copy<X, Y, V>::of(x0);
                } else {
                    const Pack<X, V> x1 = load_pack<X, V>(data + targets[i].x1 + d);
#pragma unroll
                    for (int v = 0; v < V; ++v) {
                        const C a = widen<C>(x0.at[v]), b = widen<C>(x1.at[v]);
                        y.at[v] = Narrow<Y>::of(a + w * (b - a));
                    }
                }
            }
            store_pack<Y, V>(out + targets[i].y + d, y);
        }
        if (packs < width) break;
    }
}

// A 64-bit division takes a hundred instructions, which the other phase would wait for.
__device__ __forceinline__ int64 row_of_target(int64 item, int64 T) {
    return item >> 31 ? item / T : (unsigned)item / (unsigned)T;
}

// Blocks of 256 threads on a processor at once: as many as registers allow without spilling.
template <typename X, typename Y> struct Blocks { static constexpr int value = 6; };
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 1000
template <typename X> struct Blocks<X, X> {
    static constexpr int value = Wide<X>::value || sizeof(X) == 1 ? 6 : 8;
};
#endif

//            targets of the batch, one row after another; a block takes `tile` of them
//   ... ─────┬─────────┬───── ...
//            │ t t t t │   1. a thread finds each target's two samples and weight: one search for
//            └─┬─┬─┬─┬─┘      all D features
//   y[t] = x0 + w (x1 - x0)   2. all threads move the rows, V features (16 bytes) at a time
//
// The tile is what makes one wave of blocks: with less, the searches of one wave of blocks after
// another are waited for; with more, processors stand idle. PLAIN is what most calls are: stamps and
// targets as arrays, and nothing but values and validity wanted. What is then known at compile time
// saves a third of phase 1 and brings it down to 32 registers, so that 2048 threads a processor
// keep the memory busy (measured on 256 x 1000 targets of 512 bfloat16: 133 us, with 44: 156).
template <typename X, typename Y, typename W, int V, int PLAIN>
__global__ void __launch_bounds__(256, PLAIN ? Blocks<X, Y>::value : 4) resample(
    const X* __restrict__ data, const void* __restrict__ src_times, const int64* __restrict__ order,
    const void* __restrict__ lengths, const void* __restrict__ offsets,
    const void* __restrict__ latencies, const void* __restrict__ tgt_times,
    const void* __restrict__ tgt_lengths, Y* __restrict__ out, bool* __restrict__ valid,
    int* __restrict__ index, Computed<X, Y>* __restrict__ weight, void* __restrict__ times,
    int64 S, int64 src_row, int64 src_step, int64 src_width, int64 lengths_width,
    int64 offsets_width, int64 latencies_width, int64 items, int64 T, int64 D, int64 data_row,
    int64 data_step, int64 tgt_row, int64 tgt_step, int64 out_row, int64 out_step, int64 tgt_width,
    int64 tgt_lengths_width, int64 method, int64 left, int64 right, int64 left_bits,
    int64 right_bits, int64 nan_bits, int64 fill, int64 fill_bits, int64 from_first, int64 tile,
    W latency, W src_start, double src_hz, double ticks, W tolerance, W nearness, W max_gap,
    W t_start, double hz) {
    typedef Computed<X, Y> C;
    __shared__ Target<C> targets[128];  // a tile is at most this
    __shared__ Y constants[5];
    if (threadIdx.x == blockDim.x - 1) {  // a thread that has no target to find
        constants[EMPTY] = of_bits<Y>(0);
        constants[NOT_A_NUMBER] = of_bits<Y>(nan_bits);
        constants[AT_LEFT] = of_bits<Y>(left_bits);
        constants[AT_RIGHT] = of_bits<Y>(right_bits);
        constants[FILLED] = of_bits<Y>(fill_bits);
    }
    for (int64 begin = (int64)blockIdx.x * tile; begin < items; begin += (int64)gridDim.x * tile) {
        const int n = (int)(items - begin < tile ? items - begin : tile);
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const int64 item = begin + i;
            const int64 b = row_of_target(item, T);
            const int64 t = item - b * T;
            Row<W> row;
            if (PLAIN) {
                row.first = 0;
                row.n = S;
                row.stamps = src_times;
                row.order = nullptr;
                row.offset = b * src_row;
                row.step = src_step;
                row.width = src_width;
                row.latency = 0;
                row.narrow = tgt_width == src_width;
                // The compiler drops a test for null, but only if it knows.
                __builtin_assume(src_times != nullptr && tgt_times != nullptr);
            } else {
                row = row_of(b, S, src_times, order, lengths, offsets, latencies, src_row, src_step,
                             src_width, lengths_width, offsets_width, latencies_width, latency,
                             src_start, src_hz, ticks);
            }
            W q;
            if (PLAIN || tgt_times) {
                q = load<W>(tgt_times, tgt_width, b * tgt_row + t * tgt_step);
            } else {
                W start = t_start;
                if (from_first) {
                    if (row.n > 0) start = row.at(0);
                    else no_time(start);
                }
                q = grid_point(start, t, hz, ticks, tgt_width);
            }
            if (!PLAIN && times) store_time(times, tgt_width, item, q);

            Blend<C> blend;
            if (!PLAIN && tgt_lengths && t >= load<int64>(tgt_lengths, tgt_lengths_width, b)) {
                blend = Locator<C, W>::constant(EMPTY);
            } else {
                const Locator<C, W> locate{row, method, left, right, tolerance, nearness, max_gap};
                blend = locate(q, row.upper_bound(q));
            }
            if (fill && !blend.valid) blend = Locator<C, W>::constant(FILLED);
            Target<C> target{0, 0, b * out_row + t * out_step, blend.w, -1};
            if (blend.i0 < 0) {
                target.code = (int)(-1 - blend.i0);
            } else {
                blend.i0 = row.position(blend.i0);
                blend.i1 = row.position(blend.i1);
                const int64 start = b * data_row + row.first * data_step;
                target.x0 = start + blend.i0 * data_step;
                target.x1 = start + blend.i1 * data_step;
            }
            targets[i] = target;
            if (valid) valid[item] = blend.valid;
            if (!PLAIN && index) {
                index[item] = blend.i0 < 0 ? -1 : (int)blend.i0;
                weight[item] = blend.w;
            }
        }
        __syncthreads();
        write<X, Y, V>(data, out, targets, constants, n, (int)(D / V));
        __syncthreads();
    }
}

// ------------------------------------------------------------------------------------------ clocks

// Whether sample i sorts before sample k: by time, NaN last, then by position.
template <typename W>
__device__ __forceinline__ bool comes_before(const Row<W>& row, int64 i, int64 k) {
    const W s = row.at(i), t = row.at(k);
    const bool s_nan = is_nan(s), t_nan = is_nan(t);
    if (s_nan || t_nan) return (t_nan && !s_nan) || (s_nan == t_nan && i < k);
    return s < t || (s == t && i < k);
}

// A bitonic network in place, one block to a row. Every comparator leaves the smaller element at
// the lower place, so the padding that would make n a power of two never moves and need not exist:
//
//   size 4:  0 ┬─ 1 ┐    mirrored   ┌─ 0 ─┬─ 1     then halves of it, straight
//            3 ┴─ 2 ┘    (place ^   └─ 2 ─┴─ 3
//                         size - 1)
template <typename W>
__global__ void argsort(const void* src_times, int64* order, const void* lengths,
                        const void* offsets, const void* latencies, int64 S, int64 src_row,
                        int64 src_step, int64 src_width, int64 lengths_width, int64 offsets_width,
                        int64 latencies_width, int64 B, W latency, W src_start, double src_hz,
                        double ticks) {
    for (int64 b = blockIdx.x; b < B; b += gridDim.x) {
        const Row<W> row = row_of(b, S, src_times, (const int64*)nullptr, lengths, offsets,
                                  latencies, src_row, src_step, src_width, lengths_width,
                                  offsets_width, latencies_width, latency, src_start, src_hz, ticks);
        int64* positions = order + (offsets ? row.first : b * S);
        for (int64 i = threadIdx.x; i < row.n; i += blockDim.x) positions[i] = i;
        __syncthreads();
        for (int64 size = 2; size < 2 * row.n; size *= 2) {
            for (int64 distance = size / 2; distance > 0; distance /= 2) {
                const int64 partner = distance == size / 2 ? size - 1 : distance;
                for (int64 i = threadIdx.x; i < row.n; i += blockDim.x) {
                    const int64 k = i ^ partner;
                    if (k > i && k < row.n && comes_before(row, positions[k], positions[i])) {
                        const int64 swapped = positions[i];
                        positions[i] = positions[k];
                        positions[k] = swapped;
                    }
                }
                __syncthreads();
            }
        }
    }
}

// found[0]: the first sample out of order, as b * S + i, or -1. found[1]: how many points a grid
// needs to reach the last sample of every row. One block: it ends in a read by the host anyway.
template <typename W>
__global__ void survey(const void* src_times, const int64* order, const void* lengths,
                       const void* offsets, const void* latencies, int64* found, int64 S,
                       int64 src_row, int64 src_step, int64 src_width, int64 lengths_width,
                       int64 offsets_width, int64 latencies_width, int64 B, int64 check,
                       int64 from_first, W latency, W src_start, double src_hz, double ticks,
                       W t_start, double hz) {
    constexpr int64 none = (int64)(~0ull >> 1);
    __shared__ int64 disorder, points;
    if (threadIdx.x == 0) {
        disorder = none;
        points = 0;
    }
    __syncthreads();
    if (check) {
        for (int64 b = 0; b < B; ++b) {
            const Row<W> row = row_of(b, S, src_times, order, lengths, offsets, latencies, src_row,
                                      src_step, src_width, lengths_width, offsets_width,
                                      latencies_width, latency, src_start, src_hz, ticks);
            for (int64 i = 1 + threadIdx.x; i < row.n; i += blockDim.x) {
                const W t = row.at(i), before = row.at(i - 1);
                if (!is_nan(t) && (is_nan(before) || t < before)) atomicMin(&disorder, b * S + i);
            }
        }
    }
    if (hz > 0) {
        for (int64 b = threadIdx.x; b < B; b += blockDim.x) {
            const Row<W> row = row_of(b, S, src_times, order, lengths, offsets, latencies, src_row,
                                      src_step, src_width, lengths_width, offsets_width,
                                      latencies_width, latency, src_start, src_hz, ticks);
            int64 last = row.n;
            if (last > 0 && is_nan(row.at(last - 1))) last = row.real_samples();
            if (last == 0) continue;
            const W start = from_first ? row.at(0) : t_start, end = row.at(last - 1);
            if (end < start) continue;
            const double span = (double)elapsed(end, start) * hz / ticks;
            atomicMax(&points, (int64)floor(span + 1e-6) + 1);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        found[0] = disorder == none ? -1 : disorder;
        found[1] = points;
    }
}
