// Trajectories on another clock. What each kernel computes is defined by the function of the same
// name and parameters in robocache_cupy/_cpu/resample.py.

#include "locate.cuh"

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
// another are waited for; with more, processors stand idle.
//
// PLAIN: stamps and targets as arrays, and nothing but values and validity wanted. What is then known
// at compile time saves a third of phase 1 and brings it down to 32 registers, so that 2048 threads
// a processor keep the memory busy (measured on 256 x 1000 targets of 512 bfloat16: 133 us, with 44:
// 156). PLAIN > 1 is what most calls are: also linear and held at the ends, values alone, and stamps
// and targets one after another, of PLAIN bytes each. Less than half of the instructions are left.
//
// FEW: so few targets that a call is over before the memory is busy. Then each instruction counts
// that all warps wait for or execute. So blocks are small, a team of lanes looks for each target, and
// a thread has two rows under way.
template <typename X, typename Y, typename W, int V, int PLAIN, int FEW>
__global__ void __launch_bounds__(FEW ? 128 : 256,
                                  FEW ? 12 : PLAIN ? Blocks<X, Y>::value : 4) resample(
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
    wait_for_stream();
    typedef Computed<X, Y> C;
    typedef typename Count<PLAIN>::type N;
    typedef typename StampOf<W, PLAIN>::type Stamp;
    __shared__ Target<C> targets[128];  // a tile is at most this
    if (PLAIN > 1) {
        method = LINEAR;
        left = right = HOLD;
        fill = 0;
        valid = nullptr;
        src_width = tgt_width = PLAIN;
        src_step = tgt_step = 1;
    }
    __shared__ Y constants[5];
    if (threadIdx.x == blockDim.x - 1) {  // a thread that has no target to find
        constants[EMPTY] = of_bits<Y>(0);
        constants[NOT_A_NUMBER] = of_bits<Y>(nan_bits);
        constants[AT_LEFT] = of_bits<Y>(left_bits);
        constants[AT_RIGHT] = of_bits<Y>(right_bits);
        constants[FILLED] = of_bits<Y>(fill_bits);
    }
    const Team team((int)tile);
    for (int64 begin = (int64)blockIdx.x * tile; begin < items; begin += (int64)gridDim.x * tile) {
        const int n = (int)(items - begin < tile ? items - begin : tile);
        for (int first = 0; first < n; first += FEW ? team.teams() : (int)blockDim.x) {
            const int i = first + (FEW ? team.index() : (int)threadIdx.x);
            if (!FEW && i >= n) break;
            const N item = (N)begin + min(i, n - 1), b = row_of_target(item, (N)T),
                    t = item - b * (N)T;
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
                int64 j;
                if constexpr (FEW)
                    j = team.upper_bound((const Stamp*)src_times + row.offset, (int)S, (Stamp)q);
                else if constexpr (PLAIN > 1)
                    j = row.template guessed_upper_bound<Stamp>((Stamp)q);
                else
                    j = row.upper_bound(q);
                blend = locate(q, j);
            }
            if (FEW && (team.lane > 0 || i >= n)) continue;
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
        if constexpr (FEW) write_few<X, V, 2>(data, out, targets, constants, n, (int)(D / V));
        else write<X, Y, V>(data, out, targets, constants, n, (int)(D / V));
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
    wait_for_stream();
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
    wait_for_stream();
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
