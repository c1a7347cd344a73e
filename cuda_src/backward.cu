// The gradients of resampling and of windows. What each kernel computes is defined by the function
// of the same name and parameters in robocache_cupy/_cpu/backward.py.

#include "episode.cuh"
#include "locate.cuh"
#include "samples.cuh"

constexpr int TILE = 255;  // targets of a block of `spans`, and one more to compare the first with
constexpr int SAMPLES = 128;  // of a block of `collect`, at most

// What a target gives to its samples.
enum Share { LINE, EVEN, CURVE, RISE, FALL };

// Target t of row b: given, or on a grid.
template <typename W> struct Targets {
    const void *times, *starts;
    int64 row, step, width, from_first;
    W start;
    double hz, ticks;

    __device__ __forceinline__ W at(const Row<W>& samples, int64 b, int64 t) const {
        if (times) return load<W>(times, width, b * row + t * step);
        W begin = start;
        if (starts) {
            begin = load<W>(starts, width, b);
        } else if (from_first) {
            if (samples.n > 0) begin = samples.at(0);
            else no_time(begin);
        }
        return grid_point(begin, t, hz, ticks, width);
    }
};

// The samples [a, b) that a target uses, and the weight.
template <typename C> struct Span {
    int64 a, b;
    C w;
};

template <typename C, typename W>
__device__ __forceinline__ Span<C> span_of(const Row<W>& row, W before, W q, W after, int64 method,
                                           int64 left, int64 right, int64 fill, W tolerance,
                                           W nearness, W max_gap) {
    const int64 n = row.n;
    if (n == 0 || is_nan(q)) return {n, n, (C)0};
    if (method >= MEAN) {
        int64 a, b;
        row.interval(before, q, after, a, b);
        if (a < b) return {a, b, method == MEAN ? (C)1 / (C)(b - a) : (C)1};
        if (method == SUM) return {b, b, (C)0};
    }
    const int64 j = row.upper_bound(q);
    const int64 by = method < CATMULL_ROM ? method : method == MEAN ? (int64)NEAREST : LINEAR;
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
    if (by == LINEAR && left == EXTRAPOLATE && i == 0 && n > 1) return {0, 2, (C)0};
    if (by == LINEAR && right == EXTRAPOLATE && i > 0 && (i + 1 == n || is_nan(row.at(i + 1))))
        return {i - 1, i + 1, (C)1};
    return {i, i + 1, (C)0};
}

// One thread to a target; the first repeats the last target of the tile before.
template <typename C, typename W>
__global__ void __launch_bounds__(256, 3) spans(
    const void* __restrict__ src_times, const int64* __restrict__ order,
    const void* __restrict__ lengths, const void* __restrict__ offsets,
    const void* __restrict__ latencies, const void* __restrict__ tgt_times,
    const void* __restrict__ starts, const void* __restrict__ tgt_lengths,
    int* __restrict__ begins, int* __restrict__ ends, C* __restrict__ weights,
    int* __restrict__ disorder, int64 S, int64 src_row, int64 src_step, int64 src_width,
    int64 lengths_width, int64 offsets_width, int64 latencies_width, int64 one_row, int64 targets,
    int64 T, int64 tgt_row, int64 tgt_step, int64 tgt_width, int64 tgt_lengths_width, int64 method,
    int64 left, int64 right, int64 fill, int64 from_first, W latency, W src_start, double src_hz,
    double ticks, W tolerance, W nearness, W max_gap, W t_start, double hz) {
    wait_for_stream();
    __shared__ int a[TILE + 1], b[TILE + 1];
    __shared__ int descends;
    const Targets<W> grid{tgt_times, starts, tgt_row, tgt_step, tgt_width, from_first,
                          t_start,   hz,     ticks};
    const int64 parts = (targets + TILE - 1) / TILE;
    for (int64 part = blockIdx.x; part < parts; part += gridDim.x) {
        const int64 begin = part * TILE - 1;
        const int n = (int)(targets - begin < TILE + 1 ? targets - begin : TILE + 1);
        if (threadIdx.x == 0) descends = 0;
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const int64 item = begin + i;
            if (item < 0) continue;
            const int64 r = row_of_target(item, T), t = item - r * T;
            const Row<W> row = row_of<W>(one_row ? 0 : r, S, src_times, order, lengths, offsets,
                                         latencies, src_row, src_step, src_width, lengths_width,
                                         offsets_width, latencies_width, latency, src_start, src_hz,
                                         ticks);
            const int64 end = tgt_lengths ? load<int64>(tgt_lengths, tgt_lengths_width, r) : T;
            Span<C> span{row.n, row.n, (C)0};
            if (t < end) {
                W before, after;
                no_time(before);
                no_time(after);
                if (method >= MEAN) {  // a grid goes on beyond its ends
                    if (t > 0 || !tgt_times) before = grid.at(row, r, t - 1);
                    if (t + 1 < end || !tgt_times) after = grid.at(row, r, t + 1);
                }
                span = span_of<C, W>(row, before, grid.at(row, r, t), after, method, left, right,
                                     fill, tolerance, nearness, max_gap);
            }
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

// Sample s of row b, of n there; outside the rows n is 0.
struct Sample {
    int64 b, s, n;
};

__device__ __forceinline__ Sample place_of(int64 item, int64 S, int64 B, const void* lengths,
                                           const void* offsets, int64 lengths_width,
                                           int64 offsets_width, int64 one_row) {
    const int64 b = row_of_sample(one_row ? nullptr : offsets, offsets_width, S, B, item);
    const bool packed = offsets && !one_row;
    Sample place{b, packed ? item : item - b * S, S};
    const int64 r = one_row ? 0 : b;
    if (offsets) {
        place.n = 0;
        if (b >= 0 && b < B) {
            const int64 first = clamp(load<int64>(offsets, offsets_width, r), 0, S);
            place.n = clamp(load<int64>(offsets, offsets_width, r + 1) - first, 0, S - first);
            place.s -= first;
        }
    } else if (lengths) {
        place.n = clamp(load<int64>(lengths, lengths_width, r), 0, S);
    }
    if (place.s < 0) place.n = 0;
    return place;
}

// What a target of weight w gives to a sample that leads its span, or does not.
template <typename C>
__device__ __forceinline__ C share_of(int64 share, bool leads, C w) {
    if (share == EVEN) return w;
    if (share == LINE) return leads ? 1 - w : w;
    const C v = 1 - w, ww = w * w;
    if (share == RISE) return leads ? w * (v * v) : (C)0;
    if (share == FALL) return leads ? (C)0 : -(ww * v);
    const C c = ww * ((C)3 - (C)2 * w);
    return leads ? 1 - c : c;
}

// The targets [begin, end) of a sample between the two phases of a block.
struct Run {
    int64 targets, grad;  // where those of the row start
    int64 begin, end, s;
    int64 at;  // where its gradient goes
};

//   targets   t t t t t     ascending, and so are the first and the last of the samples they use:
//             │╱│╱ ╲│╲│     1. a thread finds the run of targets of a sample by two searches
//   samples   s s   s s     2. all threads add up their rows, V features at a time, in order
template <typename X, typename Y, int V>
__global__ void __launch_bounds__(256, 4) collect(
    const X* __restrict__ grad, const int64* __restrict__ tgt_order,
    const int64* __restrict__ order, const void* __restrict__ lengths,
    const void* __restrict__ offsets, const int* __restrict__ begins, const int* __restrict__ ends,
    const Computed<X, Y>* __restrict__ weights, const int* __restrict__ disorder,
    Y* __restrict__ out, int64 items, int64 S, int64 B, int64 T, int64 D, int64 lengths_width,
    int64 offsets_width, int64 one_row, int64 grad_row, int64 grad_step, int64 share,
    int64 block) {
    wait_for_stream();
    typedef Computed<X, Y> C;
    __shared__ Run runs[SAMPLES];
    __shared__ int descends;
    const void* const rows_at = one_row ? nullptr : offsets;
    for (int64 from = (int64)blockIdx.x * block; from < items; from += (int64)gridDim.x * block) {
        const int n = (int)(items - from < block ? items - from : block);
        if (threadIdx.x == 0) descends = 0;
        __syncthreads();
        if (B > 0 && T > 0) {
            const int64 top = clamp(row_of_sample(rows_at, offsets_width, S, B, from), 0, B - 1);
            const int64 bottom =
                clamp(row_of_sample(rows_at, offsets_width, S, B, from + n - 1), top, B - 1);
            const int64 end = (bottom * T + T - 1) / TILE;
            for (int64 part = top * T / TILE + threadIdx.x; part <= end; part += blockDim.x)
                if (disorder[part]) descends = 1;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const int64 item = from + i;
            const Sample place =
                place_of(item, S, B, lengths, offsets, lengths_width, offsets_width, one_row);
            const int64 b = place.b;
            Run run{b * T, b * grad_row, 0, 0, place.s, item};
            if (b >= 0 && b < B && place.s < place.n) {
                if (order) run.at = item - place.s + order[one_row ? item - b * S : item];
                if (T > 0 && descends) {
                    run.end = T;
                } else if (T > 0) {
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
                    const C w = share_of<C>(share, a == run.s, weights[run.targets + t]);
                    if (w == 0) continue;
                    const int64 k = tgt_order ? tgt_order[t] : t;
                    const Pack<X, V> g =
                        load_pack<X, V>(grad + run.grad + k * grad_step + (int64)column * V);
#pragma unroll
                    for (int v = 0; v < V; ++v) total[v] += w * widen<C>(g.at[v]);
                }
                Pack<Y, V> y;
#pragma unroll
                for (int v = 0; v < V; ++v) y.at[v] = Narrow<Y>::of(total[v]);
                store_pack<Y, V>(out + run.at * D + (int64)column * V, y);
            }
            if (packs < width) break;
        }
        __syncthreads();
    }
}

// ------------------------------------------------------------------------------------------ curves

template <typename C> __device__ __forceinline__ C sign(C x) { return (C)((x > 0) - (x < 0)); }
template <typename C> __device__ __forceinline__ C magnitude(C x) { return x < 0 ? -x : x; }
template <typename C> __device__ __forceinline__ C larger(C a, C b) { return a < b ? b : a; }

// The partial derivatives of a slope by those of the intervals round it, the two before it first.
template <typename C> struct Partials {
    C p1, p2, p3, p4;
};

template <typename C>
__device__ __forceinline__ void at_the_end_by(C a, C b, C wa, C wb, C& by_a, C& by_b) {
    const C slope = wa * a - wb * b;
    const bool along = (slope > 0 && a > 0) || (slope < 0 && a < 0);
    const bool opposed = !((a > 0 && b > 0) || (a < 0 && b < 0) || (a == 0 && b == 0));
    by_a = wa;
    by_b = -wb;
    if (!along || (opposed && magnitude(slope) > (C)3 * magnitude(a))) {
        by_a = along ? (C)3 : (C)0;
        by_b = 0;
    }
}

template <typename C>
__device__ __forceinline__ Partials<C> akima_by(C m1, C m2, C m3, C m4, bool modified) {
    const C half = (C)0.5, equal = sizeof(C) == 8 ? (C)1e-9 : (C)1e-6f;
    C a = magnitude(m4 - m3), b = magnitude(m2 - m1);
    const C rise = sign(m4 - m3), fall = sign(m2 - m1);
    C a4 = rise, a3 = -rise, b2 = fall, b1 = -fall;
    if (modified) {
        a = a + half * magnitude(m4 + m3);
        b = b + half * magnitude(m2 + m1);
        const C up = half * sign(m4 + m3), down = half * sign(m2 + m1);
        a4 = a4 + up;
        a3 = a3 + up;
        b2 = b2 + down;
        b1 = b1 + down;
    }
    const C total = a + b;
    const C largest = larger(larger(magnitude(m1), magnitude(m2)),
                             larger(magnitude(m3), magnitude(m4)));
    if (total <= equal * largest) {
        const C end = modified ? (C)0 : half;
        return {end, 0, 0, end};
    }
    const C slope = (a * m2 + b * m3) / total;
    const C by_a = (m2 - slope) / total, by_b = (m3 - slope) / total;
    return {by_b * b1, a / total + by_b * b2, b / total + by_a * a3, by_a * a4};
}

template <typename C>
__device__ __forceinline__ Partials<C> slope_by(int64 method, C h1, C h2, C h3, C h4, C m1, C m2,
                                                C m3, C m4) {
    const bool before = h2 > 0, after = h3 > 0;
    const bool far_before = before && h1 > 0, far_after = after && h4 > 0;
    if (!before && !after) return {0, 0, 0, 0};
    if (!before && (method == CATMULL_ROM || !far_after)) return {0, 0, 1, 0};
    if (!after && (method == CATMULL_ROM || !far_before)) return {0, 1, 0, 0};
    if (method == CATMULL_ROM) return {0, h2 / (h2 + h3), h3 / (h2 + h3), 0};
    const C two = (C)2;
    if (method == PCHIP) {
        Partials<C> p{0, 0, 0, 0};
        if (!before) {
            at_the_end_by(m3, m4, (two * h3 + h4) / (h3 + h4), h3 / (h3 + h4), p.p3, p.p4);
            return p;
        }
        if (!after) {
            at_the_end_by(m2, m1, (two * h2 + h1) / (h2 + h1), h2 / (h2 + h1), p.p2, p.p1);
            return p;
        }
        if (m2 != m2 || m3 != m3) return {0, 1, 1, 0};
        if (!((m2 > 0 && m3 > 0) || (m2 < 0 && m3 < 0))) return p;
        const C whole = (C)3 * (h2 + h3);
        const C w2 = (two * h3 + h2) / whole, w3 = (h3 + two * h2) / whole;
        const C over2 = (C)1 / (w3 * (m2 / m3) + w2), over3 = (C)1 / (w2 * (m3 / m2) + w3);
        return {0, w2 * over2 * over2, w3 * over3 * over3, 0};
    }
    // Beyond the ends the slopes go on as they changed last.
    if (!before) m2 = two * m3 - m4;
    if (!after) m3 = two * m2 - m1;
    if (!far_before) m1 = two * m2 - m3;
    if (!far_after) m4 = two * m3 - m2;
    Partials<C> p = akima_by(m1, m2, m3, m4, method == MAKIMA);
    if (!far_after) {
        p.p3 = p.p3 + two * p.p4;
        p.p2 = p.p2 - p.p4;
        p.p4 = 0;
    }
    if (!far_before) {
        p.p2 = p.p2 + two * p.p1;
        p.p3 = p.p3 - p.p1;
        p.p1 = 0;
    }
    if (!after) {
        p.p2 = p.p2 + two * p.p3;
        p.p1 = p.p1 - p.p3;
        p.p3 = 0;
    }
    if (!before) {
        p.p3 = p.p3 + two * p.p2;
        p.p4 = p.p4 - p.p2;
        p.p2 = 0;
    }
    return p;
}

// One thread to a number. It goes over the five samples round its own with the four intervals round
// each, of which the next sample needs but one that is new.
template <typename X, typename C, typename W>
__global__ void __launch_bounds__(256, 2) slopes(
    const C* __restrict__ values, const C* __restrict__ rises, const C* __restrict__ falls,
    const X* __restrict__ data, const void* __restrict__ src_times,
    const int64* __restrict__ order, const void* __restrict__ lengths,
    const void* __restrict__ offsets, const void* __restrict__ latencies, X* __restrict__ out,
    int64 items, int64 S, int64 B, int64 D, int64 data_row, int64 data_step, int64 src_row,
    int64 src_step, int64 src_width, int64 lengths_width, int64 offsets_width,
    int64 latencies_width, int64 one_row, int64 method, W latency, W src_start, double src_hz,
    double ticks) {
    wait_for_stream();
    const int64 count = items * D;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (int64)gridDim.x * blockDim.x) {
        const int64 item = row_of_target(i, D), d = i - item * D;
        const Sample place =
            place_of(item, S, B, lengths, offsets, lengths_width, offsets_width, one_row);
        const int64 s = place.s, n = place.n;
        if (!(place.b >= 0 && place.b < B && s < n)) {
            out[i] = Narrow<X>::of((C)0);
            continue;
        }
        const Row<W> row = row_of<W>(one_row ? 0 : place.b, S, src_times, order, lengths, offsets,
                                     latencies, src_row, src_step, src_width, lengths_width,
                                     offsets_width, latencies_width, latency, src_start, src_hz,
                                     ticks);
        const int64 start = place.b * data_row + row.first * data_step + d;
        // The interval that begins with sample k: its length, and its slope.
        W last = 0;  // the stamp of the sample at its end
        C held = 0;
        bool began = false;
        const auto next = [&](int64 k, C& h, C& m) {
            h = m = 0;
            if (k < 0 || k + 1 >= n) return;
            if (!began) {
                last = row.at(k);
                if (method >= PCHIP) held = widen<C>(data[start + row.position(k) * data_step]);
                began = true;
            }
            const W from = last;
            const C y = held;
            last = row.at(k + 1);
            if (method >= PCHIP) held = widen<C>(data[start + row.position(k + 1) * data_step]);
            if (!is_nan(last) && from < last) {
                h = (C)elapsed(last, from);
                if (method >= PCHIP) m = (held - y) / h;
            }
        };
        C h1, h2, h3, h4, m1, m2, m3, m4;
        next(s - 4, h1, m1);
        next(s - 3, h2, m2);
        next(s - 2, h3, m3);
        C before = 0, after = 0, h_before = 0, h_after = 0;  // of the intervals beside the sample
        for (int j = -2; j <= 2; ++j) {
            const int64 k = s + j;
            next(k + 1, h4, m4);
            if (j == 0) {
                h_before = h2;
                h_after = h3;
            }
            if (k >= 0 && k < n) {
                const int64 near = i + j * D;
                const C rise = rises[near], fall = falls[near];
                C by = 0;
                if (rise != 0) by = by + rise * h3;
                if (fall != 0) by = by + fall * h2;
                if (by != 0) {
                    const Partials<C> p = slope_by<C>(method, h1, h2, h3, h4, m1, m2, m3, m4);
                    const C to_before = j == -2 ? p.p4 : j == -1 ? p.p3 : j == 0 ? p.p2 : p.p1;
                    const C to_after = j == -1 ? p.p4 : j == 0 ? p.p3 : j == 1 ? p.p2 : p.p1;
                    if (j < 2) before = before + by * to_before;
                    if (j > -2) after = after + by * to_after;
                }
            }
            h1 = h2;
            h2 = h3;
            h3 = h4;
            m1 = m2;
            m2 = m3;
            m3 = m4;
        }
        C total = values[i];
        if (h_before > 0) total = total + before / h_before;
        if (h_after > 0) total = total - after / h_after;
        out[(item - s + row.position(s)) * D + d] = Narrow<X>::of(total);
    }
}

// ----------------------------------------------------------------------------------------- windows

template <typename C, typename W>
__global__ void __launch_bounds__(256, 3) window_spans(
    const void* __restrict__ src_times, const void* __restrict__ offsets,
    const void* __restrict__ anchors, const void* __restrict__ anchor_times,
    const void* __restrict__ anchor_episode, const void* __restrict__ latencies,
    const void* __restrict__ deltas, int* __restrict__ begins, int* __restrict__ ends,
    C* __restrict__ weights, int64 items, int64 T, int64 N, int64 episodes, int64 src_step,
    int64 src_width, int64 offsets_width, int64 anchors_width, int64 anchor_times_width,
    int64 episodes_width, int64 latencies_width, int64 method, int64 fill, int64 reflect, W latency,
    double ticks, W tolerance, W nearness, W max_gap) {
    wait_for_stream();
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items;
         item += (int64)gridDim.x * blockDim.x) {
        const int64 a = row_of_target(item, T), k = item - a * T;
        const int64 anchor = anchors ? load<int64>(anchors, anchors_width, a) : 0;
        int64 episode;
        if (anchor_episode) {
            episode = load<int64>(anchor_episode, episodes_width, a);
        } else {
            int64 lo = 0, hi = episodes;
            while (lo < hi) {
                const int64 mid = lo + (hi - lo) / 2;
                if (load<int64>(offsets, offsets_width, mid) <= anchor) lo = mid + 1;
                else hi = mid;
            }
            episode = lo - 1;
        }
        Row<W> row{};
        if (episode >= 0 && episode < episodes) {
            row.first = clamp(load<int64>(offsets, offsets_width, episode), 0, N);
            row.n = clamp(load<int64>(offsets, offsets_width, episode + 1) - row.first, 0,
                          N - row.first);
        }
        Span<C> span{row.n, row.n, (C)0};
        if (!src_times) {
            int64 sample = anchor + ((const int64*)deltas)[k] - row.first;
            const bool real = sample >= 0 && sample < row.n;
            if (row.n > 0 && (real || !fill)) {
                if (reflect) sample = mirrored_index(sample, row.n);
                span.a = clamp(sample, 0, row.n - 1);
                span.b = span.a + 1;
            }
        } else {
            row.latency = latency;
            if (latencies)
                from_seconds(load<double>(latencies, latencies_width, a), ticks, row.latency);
            row.stamps = src_times;
            row.offset = row.first * src_step;
            row.step = src_step;
            row.width = src_width;
            row.ticks = ticks;
            W start, before, after;
            no_time(start);
            no_time(before);
            no_time(after);
            if (anchor_times) start = load<W>(anchor_times, anchor_times_width, a);
            else if (anchor >= 0 && anchor < N)
                start = load<W>(src_times, src_width, anchor * src_step);
            const W* const steps = (const W*)deltas;
            if (k > 0) before = plus(start, steps[k - 1]);
            if (k + 1 < T) after = plus(start, steps[k + 1]);
            span = span_of<C, W>(row, before, plus(start, steps[k]), after, method, HOLD, HOLD,
                                 fill, tolerance, nearness, max_gap);
            if (span.a < span.b && (method == LINEAR || (method >= CATMULL_ROM && method < MEAN)))
                span.b = span.a + 2 < row.n ? span.a + 2 : row.n;
        }
        const bool used = span.a < span.b;
        begins[item] = (int)(used ? row.first + span.a : N);
        ends[item] = (int)(used ? row.first + span.b : N);
        weights[item] = span.w;
    }
}

template <typename C>
__global__ void arrange(const int* __restrict__ begins, const int* __restrict__ ends,
                        const C* __restrict__ weights, const int64* __restrict__ order,
                        int* __restrict__ sorted_begins, int* __restrict__ sorted_ends,
                        C* __restrict__ sorted_weights, int* __restrict__ disorder, int64 items) {
    wait_for_stream();
    __shared__ int descends;
    const int64 parts = (items + TILE - 1) / TILE;
    for (int64 part = blockIdx.x; part < parts; part += gridDim.x) {
        if (threadIdx.x == 0) descends = 0;
        __syncthreads();
        for (int64 k = threadIdx.x; k < TILE; k += blockDim.x) {
            const int64 item = part * TILE + k;
            if (item >= items) break;
            const int64 i = order[item], last = item > 0 ? order[item - 1] : i;
            sorted_begins[item] = begins[i];
            sorted_ends[item] = ends[i];
            sorted_weights[item] = weights[i];
            if (begins[i] < begins[last] || ends[i] < ends[last]) descends = 1;
        }
        __syncthreads();
        if (threadIdx.x == 0) disorder[part] = descends;
        __syncthreads();
    }
}
