#pragma once
// Clocks, and the samples of a row in the order of time. robocache_cupy/_cpu/time.py defines what
// these do.

#include "warp.cuh"

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
__device__ __forceinline__ unsigned elapsed(int later, int earlier) {
    return (unsigned)later - (unsigned)earlier;
}
__device__ __forceinline__ float elapsed(float later, float earlier) { return later - earlier; }
__device__ __forceinline__ double elapsed(double later, double earlier) { return later - earlier; }

__device__ __forceinline__ int64 reflected(int64 t, int64 other) {
    return (int64)((uint64)t + (uint64)t - (uint64)other);
}
__device__ __forceinline__ double reflected(double t, double other) { return t - (other - t); }

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
template <typename W, int BYTES> struct StampOf { typedef W type; };
template <typename W> struct StampOf<W, 4> { typedef Half<W> type; };

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
    // six ways, 32 registers are too few. Where targets are so many that the cache has no rest, two
    // ways load less: 288 us for 10^7 targets of one row of 1000, with four 300.
    template <typename T, typename L, int ways>
    __device__ __forceinline__ int search(L q, int lo, int len) const {
        const T* t = (const T*)stamps + offset;
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

    // The same where there are stamps of type T one after another, in order and with no latency, and
    // q is no finer. Clocks of robots are steady but for their jitter: four stamps round the place
    // where a steady clock would have q mostly leave few to search among.
    template <typename T> __device__ __forceinline__ int guessed_upper_bound(T q) const {
        const T* const t = (const T*)stamps + offset;
        int lo = 0, len = (int)n;
        if (len > 16) {
            const T first = __ldg(t), last = __ldg(t + len - 1);
            if (!is_nan(first) && first <= q && q < last) {
                const float place = __fdividef((float)elapsed(q, first), (float)elapsed(last, first)) *
                                    (float)(len - 1);  // NaN between infinities: at 0
                const int here = min(max(__float2int_rz(place), 0), len - 2);
                const int reach = 1 << (15 - __clz(len) / 2);  // about the square root
                const int from = max(here - reach, 0), to = min(here + 1 + reach, len - 1);
                const T a = __ldg(t + from), b = __ldg(t + here), c = __ldg(t + here + 1),
                        d = __ldg(t + to);
                if (b <= q) {
                    if (q < c) return here + 1;
                    lo = q < d ? here + 2 : to + 1;
                    len = (q < d ? to : len - 1) - lo;
                } else {
                    lo = a <= q ? from + 1 : 1;
                    len = (a <= q ? here : from) - lo;
                }
            }
        }
        return search<T, T, 4>(q, lo, len);
    }

    // The number of samples not after q.
    template <int WAYS = 4> __device__ int64 upper_bound(W q) const {
        if (!stamps) {  // a uniform clock needs no search, only a correction of the guess
            const double guess = ((double)q - (double)at(0)) * hz / ticks;
            int64 j = guess > 0 ? (int64)(guess < (double)n ? guess : (double)n) : 0;
            while (j < n && not_after(j, q)) ++j;
            while (j > 0 && !not_after(j - 1, q)) --j;
            return j;
        }
        if (!order && n < (1 << 30)) {
            if (width == 8) return search<W, W, WAYS>(q, 0, (int)n);
            // In the stamps' own type where that is also q's: twice the rate of the wide one.
            return narrow ? search<Half<W>, Half<W>, WAYS>((Half<W>)q, 0, (int)n)
                          : search<Half<W>, W, WAYS>(q, 0, (int)n);
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

    // The number of samples that are nearer to a than to b > a; one at the middle is.
    __device__ int64 until_middle(W a, W b) const {
        int64 lo = 0, hi = n;
        while (lo < hi) {
            const int64 mid = lo + (hi - lo) / 2;
            const W t = at(mid);
            const bool nearer = t <= a || (t < b && elapsed(t, a) <= elapsed(b, t));
            if (nearer && !is_nan(t)) lo = mid + 1;
            else hi = mid;
        }
        return lo;
    }

    // The samples [a, b) nearer to target q than to its neighbours, which are NaN where there are
    // none.
    __device__ void interval(W before, W q, W after, int64& a, int64& b) const {
        const bool first = is_nan(before), last = is_nan(after);
        if (first && last) {
            b = upper_bound(q);
            a = b > 0 && at(b - 1) == q ? first_at(b, q) : b;
            return;
        }
        a = until_middle(first ? reflected(q, after) : before, q);
        b = until_middle(q, last ? reflected(q, before) : after);
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

// Lanes of a warp that look for one target together. In a round each loads one stamp, and their votes
// tell between which two the target lies: 500 stamps take a whole warp two rounds, where a thread by
// itself takes four of three loads and more instructions.
struct Team {
    int bits, lane;  // of 2^bits lanes
    unsigned mask, part;

    // As many lanes as leave a team for each of so many targets of a block.
    __device__ __forceinline__ explicit Team(int targets) {
        const int most = 31 - __clz(WARP), threads = 31 - __clz((int)blockDim.x);
        bits = min(max(threads - (32 - __clz(targets - 1)), 0), most);
        const int lanes = 1 << bits;
        lane = (int)threadIdx.x & (lanes - 1);
        mask = ~0u >> (32 - lanes) << ((int)threadIdx.x & (WARP - lanes));
        part = bits == 5   ? 0x07c1f07du  // 2^32 / (lanes + 1), rounded up
               : bits == 4 ? 0x0f0f0f10u
               : bits == 3 ? 0x1c71c71du
               : bits == 2 ? 0x33333334u
               : bits == 1 ? 0x55555556u
                           : 0x80000000u;
    }
    __device__ __forceinline__ int index() const { return (int)threadIdx.x >> bits; }
    __device__ __forceinline__ int teams() const { return (int)blockDim.x >> bits; }

    // The number of stamps not after q. All teams of a warp search as many, and so stay together.
    template <typename T>
    __device__ __forceinline__ int upper_bound(const T* stamps, int n, T q) const {
        int below = 0;
        for (int len = n; len > 0;) {
            const int stride = (int)((uint64)(unsigned)len * part >> 32) + 1;
            const int i = below + (lane + 1) * stride - 1;
            const T t = __ldg(stamps + min(i, n - 1));
            below += __popc(votes(i < n && !is_nan(t) && t <= q) & mask) * stride;
            len = stride - 1;
        }
        return below;
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

// What targets are counted with: the kernels for most calls, PLAIN > 1, are for fewer than 2^31.
template <int PLAIN> struct Count { typedef unsigned type; };
template <> struct Count<0> { typedef int64 type; };
template <> struct Count<1> { typedef int64 type; };

// A 64-bit division takes a hundred instructions, which the other phase would wait for.
__device__ __forceinline__ int64 row_of_target(int64 item, int64 T) {
    return item >> 31 ? item / T : (unsigned)item / (unsigned)T;
}
__device__ __forceinline__ unsigned row_of_target(unsigned item, unsigned T) { return item / T; }
