#pragma once
// Parts: columns of a stream that are made in one way, located and written by a block for a tile of
// targets. robocache_cupy/_cpu/part.py defines what these do.
//
// dtype and method are codes, switched once for a block. The pairs of dtypes that most data come in
// have code of their own, which moves 16 bytes at a time; the rest goes element by element.
// Where all parts of a launch are of one type and kind, the kernel has code for no other.

#include "locate.cuh"
#include "rotation.cuh"

enum Flag {
    NARROW_TIMES = 1, NARROW_LENGTHS = 2, NARROW_OFFSETS = 4, NARROW_LATENCIES = 8, TOLERANT = 16,
    REFLECT = 32, ONE_ROW = 64
};
enum Code { F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL };

__device__ __forceinline__ int size_of(int code) {
    switch (code) {
        case F64: case I64: case U64: return 8;
        case F32: case I32: case U32: return 4;
        case F16: case BF16: case I16: case U16: return 2;
    }
    return 1;
}
__device__ __forceinline__ bool is_wide(int code) {
    return code == F64 || code == I32 || code == I64 || code == U32 || code == U64;
}

template <typename C> __device__ C read(int code, const void* p, int64 i) {
    switch (code) {
        case F16: return widen<C>(__ldg((const __half*)p + i));
        case BF16: return widen<C>(__ldg((const __nv_bfloat16*)p + i));
        case F32: return (C)__ldg((const float*)p + i);
        case F64: return (C)__ldg((const double*)p + i);
        case I8: return (C)__ldg((const signed char*)p + i);
        case I16: return (C)__ldg((const short*)p + i);
        case I32: return (C)__ldg((const int*)p + i);
        case I64: return (C)__ldg((const int64*)p + i);
        case U16: return (C)__ldg((const unsigned short*)p + i);
        case U32: return (C)__ldg((const unsigned int*)p + i);
        case U64: return (C)__ldg((const uint64*)p + i);
    }
    return (C)__ldg((const unsigned char*)p + i);
}

template <typename C> __device__ void put(int code, void* p, int64 i, C x) {
    switch (code) {
        case F16: ((__half*)p)[i] = Narrow<__half>::of(x); return;
        case BF16: ((__nv_bfloat16*)p)[i] = Narrow<__nv_bfloat16>::of(x); return;
        case F32: ((float*)p)[i] = Narrow<float>::of(x); return;
        case F64: ((double*)p)[i] = (double)x; return;
        case I8: ((signed char*)p)[i] = Narrow<signed char>::of(x); return;
        case I16: ((short*)p)[i] = Narrow<short>::of(x); return;
        case I32: ((int*)p)[i] = Narrow<int>::of(x); return;
        case I64: ((int64*)p)[i] = Narrow<int64>::of(x); return;
        case U8: ((unsigned char*)p)[i] = Narrow<unsigned char>::of(x); return;
        case U16: ((unsigned short*)p)[i] = Narrow<unsigned short>::of(x); return;
        case U32: ((unsigned int*)p)[i] = Narrow<unsigned int>::of(x); return;
        case U64: ((uint64*)p)[i] = Narrow<uint64>::of(x); return;
        case BOOL: ((bool*)p)[i] = x != 0; return;
    }
}

// The low bytes of a word, as many as an element has.
__device__ __forceinline__ void put_bits(int code, void* p, int64 i, int64 bits) {
    switch (size_of(code)) {
        case 8: ((int64*)p)[i] = bits; return;
        case 4: ((int*)p)[i] = (int)bits; return;
        case 2: ((short*)p)[i] = (short)bits; return;
    }
    ((signed char*)p)[i] = (signed char)bits;
}
__device__ __forceinline__ int64 bits_at(int code, const void* p, int64 i) {
    switch (size_of(code)) {
        case 8: return __ldg((const int64*)p + i);
        case 4: return __ldg((const int*)p + i);
        case 2: return __ldg((const short*)p + i);
    }
    return __ldg((const signed char*)p + i);
}
__device__ __forceinline__ int64 nan_bits(int code) {
    switch (code) {
        case F16: return 0x7e00;
        case BF16: return 0x7fff;
        case F32: return 0x7fc00000;
        case F64: return 0x7ff8000000000000;
    }
    return 0;
}

// The samples of row b of a stream. PLAIN ones have stamps in order, and as many samples and the same
// latency in every row: known at compile time, that saves registers. PLAIN > 1: they also have
// stamps one after another, of PLAIN bytes as those of targets, and no latency, are linear and held
// at the ends, and only values are wanted.
template <int PLAIN, typename W, typename Table>
__device__ __forceinline__ Row<W> stream_row(const Table& table, const Stream<W>& s, int64 b,
                                             double ticks) {
    if constexpr (PLAIN) {
        Row<W> row{};
        row.stamps = table.at[s.times];
        __builtin_assume(row.stamps != nullptr);
        row.n = s.samples;
        row.offset = b * s.src_row_or_episodes;
        row.step = PLAIN > 1 ? 1 : s.src_step;
        row.width = PLAIN > 1 ? PLAIN : s.flags & NARROW_TIMES ? 4 : 8;
        row.latency = PLAIN > 1 ? (W)0 : s.latency;
        return row;
    }
    return row_of(s.flags & ONE_ROW ? 0 : b, s.samples, table.at[s.times], (const int64*)table.at[s.order],
                  table.at[s.lengths], table.at[s.offsets], table.at[s.latencies],
                  s.src_row_or_episodes, s.src_step, s.flags & NARROW_TIMES ? 4 : 8, s.flags & NARROW_LENGTHS ? 4 : 8,
                  s.flags & NARROW_OFFSETS ? 4 : 8, s.flags & NARROW_LATENCIES ? 4 : 8, s.latency,
                  of_bits<W>(table.constants[s.uniform]),
                  of_bits<double>(table.constants[s.uniform + 1]), ticks);
}

// ----------------------------------------------------------------------------------------- places

// What the parts of a launch take. A kernel for few kinds has fewer registers, and so more blocks at
// once: slerp on 2048 x 1000 targets takes 356 us with code for everything.
enum Class { SAMPLING, CURVED, TURNING, REDUCING, SCALED, EVERYTHING };
constexpr bool has_curves(int of) { return of == CURVED || of == EVERYTHING; }
constexpr bool has_statistics(int of) { return of == SCALED || of == EVERYTHING; }
constexpr bool has_rotations(int of) { return of == TURNING || of == EVERYTHING; }
constexpr bool has_reductions(int of) { return of == REDUCING || of == EVERYTHING; }

// The element type of all parts, and what is computed with; any type where CODE is -1.
template <int CODE> struct Only { typedef void type; typedef double C; };
template <> struct Only<F16> { typedef __half type; typedef float C; };
template <> struct Only<BF16> { typedef __nv_bfloat16 type; typedef float C; };
template <> struct Only<F32> { typedef float type; typedef float C; };
template <> struct Only<F64> { typedef double type; typedef double C; };

union Number {  // one of the computed type
    float f;
    double d;
};
__device__ __forceinline__ void set(Number& n, float x) { n.f = x; }
__device__ __forceinline__ void set(Number& n, double x) { n.d = x; }
template <typename C> __device__ __forceinline__ C get(const Number& n);
template <> __device__ __forceinline__ float get<float>(const Number& n) { return n.f; }
template <> __device__ __forceinline__ double get<double>(const Number& n) { return n.d; }

// A target between locating and writing: where its samples are in data, and its result in out.
template <typename C> struct Found {
    int64 x0, x1, y;  // in elements
    C w;
    int code;  // of a constant, or -1
};
struct Around {  // the samples around the two
    int left, right;  // neighbours there are on each side, at most 2
    int64 at[4];  // y[-2], y[-1], y[2], y[3]
    Number ratio[4];  // length of the interval over that of its neighbours -1, 1, -2, 2
    Number weight[4];  // of slopes: two at each end
};
struct Several {  // samples lo to lo + n in time
    const int64* order;
    int64 lo, n;
};
struct Mark {  // where to say that a rotation is undefined, and how
    bool *at, undefined;
};
struct Nothing {};

constexpr int MOST_TARGETS = 256;  // of a block: with fewer, threads of small rows stand idle

template <bool> struct Choose { template <typename T> using type = T; };
template <> struct Choose<false> { template <typename T> using type = Nothing; };

template <int CLASS, typename C> struct Place {
    Found<C> found;
    typename Choose<has_curves(CLASS)>::template type<Around> around;
    typename Choose<has_reductions(CLASS)>::template type<Several> several;
    typename Choose<has_rotations(CLASS)>::template type<Mark> mark;
};

// The neighbours of an interval, and what its slopes are made of. A repeated stamp is a jump, which
// ends a curve.
template <typename C, typename W>
__device__ void stencil(const Row<W>& row, int64 i0, int64 i1, int64 start, int64 step, int method,
                        Around& place) {
    const W t0 = row.at(i0), t1 = row.at(i1);
    const C h = (C)elapsed(t1, t0);
    C left = h, right = h, far_left = h, far_right = h;
    place.left = place.right = 0;
    if (i0 > 0) {
        const W t = row.at(i0 - 1);
        if (t < t0) {
            place.left = 1;
            left = (C)elapsed(t0, t);
            place.at[1] = start + row.position(i0 - 1) * step;
            if (i0 > 1 && method >= AKIMA) {
                const W u = row.at(i0 - 2);
                if (u < t) {
                    place.left = 2;
                    far_left = (C)elapsed(t, u);
                    place.at[0] = start + row.position(i0 - 2) * step;
                }
            }
        }
    }
    if (i1 + 1 < row.n) {
        const W t = row.at(i1 + 1);
        if (!is_nan(t) && t > t1) {
            place.right = 1;
            right = (C)elapsed(t, t1);
            place.at[2] = start + row.position(i1 + 1) * step;
            if (i1 + 2 < row.n && method >= AKIMA) {
                const W u = row.at(i1 + 2);
                if (!is_nan(u) && u > t) {
                    place.right = 2;
                    far_right = (C)elapsed(u, t);
                    place.at[3] = start + row.position(i1 + 2) * step;
                }
            }
        }
    }
    set(place.ratio[0], h / left);
    set(place.ratio[1], h / right);
    set(place.ratio[2], h / far_left);
    set(place.ratio[3], h / far_right);
    if (method == CATMULL_ROM) {
        set(place.weight[0], h / (h + left));
        set(place.weight[2], h / (h + right));
    } else if (method == PCHIP) {
        if (place.left) {
            const C w1 = (C)2 * h + left, w2 = h + (C)2 * left;
            set(place.weight[0], w1 / (w1 + w2));
            set(place.weight[1], w2 / (w1 + w2));
        } else {
            set(place.weight[0], ((C)2 * h + right) / (h + right));
            set(place.weight[1], h / (h + right));
        }
        if (place.right) {
            const C w1 = (C)2 * right + h, w2 = right + (C)2 * h;
            set(place.weight[2], w1 / (w1 + w2));
            set(place.weight[3], w2 / (w1 + w2));
        } else {
            set(place.weight[2], ((C)2 * h + left) / (h + left));
            set(place.weight[3], h / (h + left));
        }
    }
}

// Locates one target of a part. `start` is the first sample of its row in data. GUESSES: where targets
// are many, for of few the instructions of a guess take longer than the rounds that it saves.
template <int CLASS, int CODE, int PLAIN, bool GUESSES, typename W>
__device__ __forceinline__ bool locate_part(const Stream<W>& stream, const Part<W>& part,
                                            const Row<W>& row, W before, W q, W after, bool given,
                                            int64 start,
                                            Place<CLASS, typename Only<CODE>::C>& place,
                                            int64& index) {
    typedef typename Only<CODE>::C C;
    typedef typename StampOf<W, PLAIN>::type Stamp;
    const bool single = CODE < 0 && !(is_wide(part.x) || is_wide(part.y));
    int method = PLAIN > 1 ? (int)LINEAR : part.method;
    if (CLASS != SAMPLING && method >= CATMULL_ROM)
        method = method >= MEAN ? (int)NEAREST : (int)LINEAR;
    const W tolerance = PLAIN > 1 || part.method >= MEAN ? (W)0 : stream.tolerance;
    const Locator<C, W> locate{
        row, method, PLAIN > 1 ? (int64)HOLD : part.left, PLAIN > 1 ? (int64)HOLD : part.right,
        tolerance, PLAIN > 1 || !(stream.flags & TOLERANT) ? (W)-1 : stream.tolerance,
        PLAIN > 1 ? (W)-1 : stream.max_gap, single};
    Blend<C> blend = Locator<C, W>::constant(EMPTY);
    bool reduces = false;
    if constexpr (has_reductions(CLASS)) place.several.n = 0;
    if (given) {
        bool sampled = true;
        if constexpr (has_reductions(CLASS)) {
            if (part.method >= MEAN && !is_nan(q)) {
                int64 lo, hi;
                row.interval(before, q, after, lo, hi);
                reduces = hi > lo;
                sampled = !reduces && part.method != SUM && part.method != ANY;
                if (reduces) {
                    place.several = {row.order, lo, hi - lo};
                    blend = {lo, lo, (C)0, true};
                }
            }
        }
        if (sampled) {
            int64 j;
            if constexpr (PLAIN > 2 && GUESSES)
                j = row.template guessed_upper_bound<Stamp>((Stamp)q);
            else
                j = row.upper_bound(q);
            blend = locate(q, j);
            if (has_reductions(CLASS) && part.method >= MEAN) blend.valid = false;
        }
    }
    if (PLAIN <= 1 && part.fill && !blend.valid) blend = Locator<C, W>::constant(FILLED);
    Found<C>& found = place.found;
    found.w = blend.w;
    found.code = -1;
    if (blend.i0 < 0) {
        found.code = (int)(-1 - blend.i0);
        found.x0 = found.x1 = 0;
        index = -1;
        return blend.valid;
    }
    const int64 step = part.data_step;
    index = row.position(blend.i0);
    found.x0 = start + (reduces ? 0 : index * step);
    found.x1 = start + row.position(blend.i1) * step;
    if constexpr (has_curves(CLASS)) {
        if (blend.w != 0 && part.method >= CATMULL_ROM) {
            if (CODE < 0 && single)
                stencil<float>(row, blend.i0, blend.i1, start, step, part.method, place.around);
            else
                stencil<C>(row, blend.i0, blend.i1, start, step, part.method, place.around);
        }
    }
    return blend.valid;
}

// --------------------------------------------------------------------------------------- elements

// V elements at a time of dtypes known at compile time.
template <typename X, typename Y, int N> struct Elements {
    typedef Computed<X, Y> C;
    typedef X Type;
    static constexpr int V = N;
    static constexpr bool any = false;
    const X* x;
    Y* y;
    __device__ __forceinline__ Elements(const void* data, void* out, int, int)
        : x((const X*)data), y((Y*)out) {}
    __device__ __forceinline__ Raw<X, V> raw(int64 i) const { return load_raw<X, V>(x + i); }
    __device__ __forceinline__ Pack<X, V> pack(int64 i) const { return load_pack<X, V>(x + i); }
    __device__ __forceinline__ void widened(const Raw<X, V>& raw, C* v) const {
        widen_raw<X, V>(raw, v);
    }
    __device__ __forceinline__ void load(int64 i, C* v) const { widened(raw(i), v); }
    __device__ __forceinline__ void store(int64 i, const C* v) const {
        store_raw<Y, V>(y + i, narrow_raw<Y, V>(v));
    }
    __device__ __forceinline__ void copy(int64 from, int64 to) const {
        store_pack<Y, V>(y + to, Copy<X, Y, V>::of(load_pack<X, V>(x + from)));
    }
    __device__ __forceinline__ void fill(int64 i, int64 bits) const {
        Pack<Y, V> pack;
#pragma unroll
        for (int k = 0; k < V; ++k) pack.at[k] = of_bits<Y>(bits);
        store_pack<Y, V>(y + i, pack);
    }
};

// One element at a time of any dtype.
template <typename T> struct AnyElement {
    typedef T C;
    static constexpr int V = 1;
    static constexpr bool any = true;
    const void* x;
    void* y;
    int x_code, y_code;
    __device__ __forceinline__ AnyElement(const void* data, void* out, int from, int to)
        : x(data), y(out), x_code(from), y_code(to) {}
    __device__ __forceinline__ void load(int64 i, C* v) const { v[0] = read<C>(x_code, x, i); }
    __device__ __forceinline__ void store(int64 i, const C* v) const { put<C>(y_code, y, i, v[0]); }
    __device__ __forceinline__ void copy(int64 from, int64 to) const {
        if (x_code == y_code) put_bits(y_code, y, to, bits_at(x_code, x, from));
        else put<C>(y_code, y, to, read<C>(x_code, x, from));
    }
    __device__ __forceinline__ void fill(int64 i, int64 bits) const { put_bits(y_code, y, i, bits); }
};

// ----------------------------------------------------------------------------------------- curves

// The slope at a sample between slopes a and b of its two intervals, 0 at an extremum.
template <typename C> __device__ __forceinline__ C harmonic(C a, C b, C wa, C wb) {
    const bool same = (a > 0 && b > 0) || (a < 0 && b < 0);
    const C slope = a * (b / (wa * b + wb * a));
    return same ? slope : a != a || b != b ? a + b : (C)0;
}

// The slope at the end of a curve, whose last interval has slope a and the one before b.
template <typename C> __device__ __forceinline__ C at_the_end(C a, C b, C wa, C wb) {
    const C slope = wa * a - wb * b;
    const bool along = (slope > 0 && a > 0) || (slope < 0 && a < 0);
    const bool opposed = !((a > 0 && b > 0) || (a < 0 && b < 0) || (a == 0 && b == 0));
    if (!along) return a != a || b != b ? a + b : (C)0;
    return opposed && fabs(slope) > (C)3 * fabs(a) ? (C)3 * a : slope;
}

// The slope between slopes m2 and m3 of the two intervals beside a sample, m1 and m4 beyond.
template <typename C>
__device__ __forceinline__ C akima(C m1, C m2, C m3, C m4, bool modified) {
    C a = fabs(m4 - m3), b = fabs(m2 - m1);
    if (modified) {
        a = a + (C)0.5 * fabs(m4 + m3);
        b = b + (C)0.5 * fabs(m2 + m1);
    }
    const C sum = a + b;
    const C largest = max(max(fabs(m1), fabs(m2)), max(fabs(m3), fabs(m4)));
    const C equal = sizeof(C) == 4 ? (C)1e-6 : (C)1e-9;  // but for rounding
    if (sum <= equal * largest) return modified ? (C)0 : (C)0.5 * (m4 + m1);
    return sum == 0 ? (C)0 : (a * m2 + b * m3) / sum;
}

// The cubic of an interval, in units of its length. Neighbours that are missing are not read.
template <typename C>
__device__ __forceinline__ C hermite(int method, const Around& p, C w, C far_left, C left, C y0,
                                     C y1, C right, C far_right) {
    const C m = y1 - y0;
    C d0 = m, d1 = m;
    if (method == CATMULL_ROM) {
        if (p.left) d0 = (y1 - left) * get<C>(p.weight[0]);
        if (p.right) d1 = (right - y0) * get<C>(p.weight[2]);
    } else {
        C before = (y0 - left) * get<C>(p.ratio[0]), after = (right - y1) * get<C>(p.ratio[1]);
        if (method == PCHIP) {
            const C a0 = get<C>(p.weight[0]), b0 = get<C>(p.weight[1]);
            const C a1 = get<C>(p.weight[2]), b1 = get<C>(p.weight[3]);
            if (p.left) d0 = harmonic(before, m, a0, b0);
            else if (p.right) d0 = at_the_end(m, after, a0, b0);
            if (p.right) d1 = harmonic(m, after, a1, b1);
            else if (p.left) d1 = at_the_end(m, before, a1, b1);
        } else if (p.left || p.right) {
            // Beyond the ends the slopes go on as they changed last.
            if (!p.left) before = (C)2 * m - after;
            if (!p.right) after = (C)2 * m - before;
            const C first = p.left == 2 ? (left - far_left) * get<C>(p.ratio[2])
                                        : (C)2 * before - m;
            const C last = p.right == 2 ? (far_right - right) * get<C>(p.ratio[3])
                                        : (C)2 * after - m;
            d0 = akima(first, before, m, after, method == MAKIMA);
            d1 = akima(before, m, after, last, method == MAKIMA);
        }
    }
    const C v = (C)1 - w, ww = w * w;
    return y0 + (ww * ((C)3 - (C)2 * w) * m + (w * (v * v) * d0 - ww * v * d1));
}

// Normalisation: clip((x - shift) * scale + offset, low, high), each for every column.
template <typename C, int V> struct Statistics {
    C shift[V], scale[V], offset[V], low[V], high[V];

    __device__ __forceinline__ void load(const void* affine, int size, int64 column) {
        const C* a = (const C*)affine;
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const int64 at = column + j;
            const int i = size == 1 ? 0 : (int)(at < size ? at : at % size);
            shift[j] = __ldg(a + i);
            scale[j] = __ldg(a + size + i);
            offset[j] = __ldg(a + 2 * size + i);
            low[j] = __ldg(a + 3 * size + i);
            high[j] = __ldg(a + 4 * size + i);
        }
    }
    __device__ __forceinline__ C operator()(C x, int j) const {
        const C y = (x - shift[j]) * scale[j] + offset[j];
        return y < low[j] ? low[j] : y > high[j] ? high[j] : y;
    }
};
template <typename C>
__device__ __forceinline__ C normalised(C x, const void* affine, int size, int64 column) {
    Statistics<C, 1> of;
    of.load(affine, size, column);
    return of(x, 0);
}

// ---------------------------------------------------------------------------------------- writing

// The samples of a span, in the order of time, so that sums repeat.
template <typename E, typename W>
__device__ __forceinline__ void reduce(const E& elements, const Part<W>& part, const Several& s,
                                       int64 start, typename E::C* total) {
    typedef typename E::C C;
    constexpr int V = E::V;
    for (int64 k = 0; k < s.n; ++k) {
        const int64 i = s.order ? s.order[s.lo + k] : s.lo + k;
        C v[V];
        elements.load(start + i * part.data_step, v);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            if (part.method == ANY) {
                total[j] = k == 0 ? (C)(v[j] != 0) : (C)(total[j] != 0 || v[j] != 0);
            } else if (part.method < MAX) {
                total[j] = k == 0 ? (C)0 + v[j] : total[j] + v[j];
            } else if (k == 0 || v[j] != v[j] ||
                       (part.method == MAX ? v[j] > total[j] : v[j] < total[j])) {
                total[j] = v[j];  // what is not a number stays, for nothing is above it
            }
        }
    }
    if (part.method == MEAN) {
#pragma unroll
        for (int j = 0; j < V; ++j) total[j] = total[j] / (C)s.n;
    }
}
// Of 64-bit integers, which no float holds.
template <typename X, typename W>
__device__ __forceinline__ X extreme(const Part<W>& part, const void* data, const Several& s,
                                     int64 start) {
    X best = 0;
    for (int64 k = 0; k < s.n; ++k) {
        const int64 i = s.order ? s.order[s.lo + k] : s.lo + k;
        const X v = __ldg((const X*)data + start + i * part.data_step);
        if (k == 0 || (part.method == MAX ? v > best : v < best)) best = v;
    }
    return best;
}

// The same for targets that are all made of samples, those of a PLAIN stream, which lie one after the
// other as their results do. The loads of some targets are under way at once: phase 2 waits for
// memory, and a warp that loads for one target after another waits for each (fuse of three streams:
// 8.3 us so). COPIES: no sample is blended with another.
template <typename E, bool COPIES, int CLASS, typename P, typename W>
__device__ void write_plain(const Part<W>& part, const void* data, void* out, const void* affine,
                            const Place<CLASS, P>* places, int64 begin, int n) {
    typedef typename E::C C;
    constexpr int V = E::V;
    constexpr bool SCALES = has_statistics(CLASS);
    constexpr int AT_ONCE = SCALES ? 1 : sizeof(typename E::Type) == 4 ? 4 : 2;
    const E elements(data, out, part.x, part.y);
    const int packs = part.width / V;
    if (packs == 0) return;
    const int width = blockDim.x;
    const Rows rows(packs);
    if (rows.row >= rows.at_once) return;
    const int64 step = part.data_step, out_step = part.out_step;
    for (int k = threadIdx.x - rows.row * packs; k < packs; k += width) {
        const int64 d = (int64)k * V + part.column;
        const int64 y = begin * out_step + part.out_column + d;
        Statistics<C, SCALES ? V : 1> statistics;
        if (SCALES && affine) statistics.load(affine, part.affine_size, d);
        for (int i = rows.row; i < n; i += rows.at_once * AT_ONCE) {
            Raw<typename E::Type, V> x0[AT_ONCE], x1[AT_ONCE];
            C w[AT_ONCE];
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                const Found<P>& found = places[min(i + u * rows.at_once, n - 1)].found;
                w[u] = COPIES ? (C)0 : (C)found.w;
                x0[u] = elements.raw(found.x0 + d);
                x1[u] = x0[u];
                if (w[u] != 0) x1[u] = elements.raw(found.x0 + step + d);
            }
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                if (i + u * rows.at_once >= n) break;
                const int64 at = y + (i + u * rows.at_once) * out_step;
                if (w[u] == 0 && !(SCALES && affine)) {
                    store_raw<typename E::Type, V>(elements.y + at, x0[u]);
                    continue;
                }
                C a[V], b[V];
                elements.widened(x0[u], a);
                elements.widened(x1[u], b);
#pragma unroll
                for (int j = 0; j < V; ++j) {
                    if (w[u] != 0) a[j] = a[j] + w[u] * (b[j] - a[j]);
                    if (SCALES && affine) a[j] = statistics(a[j], SCALES ? j : 0);
                }
                elements.store(at, a);
            }
        }
        if (packs < width) break;
    }
}

// Curves of the same, each with code of its own.
template <int METHOD, typename E, int CLASS, typename P, typename W>
__device__ void write_curves(const Part<W>& part, const void* data, void* out,
                             const Place<CLASS, P>* places, int64 begin, int n) {
    typedef typename E::C C;
    constexpr int V = E::V;
    const E elements(data, out, part.x, part.y);
    constexpr bool FAR = METHOD >= AKIMA;
    const int packs = part.width / V;
    if (packs == 0) return;
    const int width = blockDim.x;
    const Rows rows(packs);
    if (rows.row >= rows.at_once) return;
    const int64 step = part.data_step, out_step = part.out_step;
    for (int k = threadIdx.x - rows.row * packs; k < packs; k += width) {
        const int64 d = (int64)k * V + part.column;
        const int64 y = begin * out_step + part.out_column + d;
        for (int i = rows.row; i < n; i += rows.at_once) {
            const Place<CLASS, P>& place = places[i];
            const int64 x0 = place.found.x0 + d, at = y + i * out_step;
            const C w = (C)place.found.w;
            if (w == 0) {
                elements.copy(x0, at);
                continue;
            }
            const int left = place.around.left, right = place.around.right;
            const Pack<typename E::Type, V> y0 = elements.pack(x0), y1 = elements.pack(x0 + step);
            Pack<typename E::Type, V> before = y0, after = y1;
            if (left) before = elements.pack(x0 - step);
            if (right) after = elements.pack(x0 + 2 * step);
            Pack<typename E::Type, V> first = before, last = after;
            if (FAR && left == 2) first = elements.pack(x0 - 2 * step);
            if (FAR && right == 2) last = elements.pack(x0 + 3 * step);
            C v[V];
#pragma unroll
            for (int j = 0; j < V; ++j)
                v[j] = hermite<C>(METHOD, place.around, w, widen<C>(first.at[j]),
                                  widen<C>(before.at[j]), widen<C>(y0.at[j]), widen<C>(y1.at[j]),
                                  widen<C>(after.at[j]), widen<C>(last.at[j]));
            elements.store(at, v);
        }
        if (packs < width) break;
    }
}

// A thread keeps to its columns and goes from target to target. HOW says what code is wanted beyond
// copies: whatever the class has but reductions, or all of it.
enum How { COPIES, SAMPLES, ALL };

template <int HOW, typename E, int CLASS, typename P, typename W>
__device__ void write_columns(const Part<W>& part, const void* data, void* out, const void* affine,
                              const int64* constants, const Place<CLASS, P>* places, int n) {
    typedef typename E::C C;
    constexpr int V = E::V;
    constexpr bool CURVES = HOW >= SAMPLES && has_curves(CLASS);
    constexpr bool SCALES = HOW >= SAMPLES && has_statistics(CLASS);
    const E elements(data, out, part.x, part.y);
    const int per_group = part.width / V, packs = per_group * part.groups;
    if (packs == 0) return;
    const int width = blockDim.x;
    const Rows rows(packs);
    if (rows.row >= rows.at_once) return;
    for (int k = threadIdx.x - rows.row * packs; k < packs; k += width) {
        int64 d = (int64)k * V + part.column;
        if (part.groups > 1) {
            const int group = k / per_group;
            d = (int64)group * part.stride + part.column + (k - group * per_group) * V;
        }
        Statistics<C, SCALES ? V : 1> statistics;
        if (SCALES && affine) statistics.load(affine, part.affine_size, d);
        for (int i = rows.row; i < n; i += rows.at_once) {
            const Found<P>& found = places[i].found;
            const int64 y = found.y + d;
            if (found.code >= 0) {
                elements.fill(y, constants[found.code]);
                continue;
            }
            C v[V];
            if constexpr (HOW == ALL && has_reductions(CLASS)) {
                if (places[i].several.n) {
                    if constexpr (E::any) {
                        if (part.x == part.y && !affine && part.method >= MAX &&
                            part.method != ANY && (part.x == I64 || part.x == U64)) {
                            const int64 at = found.x0 + d;
                            if (part.x == I64)
                                ((int64*)out)[y] =
                                    extreme<int64>(part, data, places[i].several, at);
                            else
                                ((uint64*)out)[y] =
                                    extreme<uint64>(part, data, places[i].several, at);
                            continue;
                        }
                    }
                    reduce(elements, part, places[i].several, found.x0 + d, v);
                    if (SCALES && affine) {
#pragma unroll
                        for (int j = 0; j < V; ++j) v[j] = statistics(v[j], SCALES ? j : 0);
                    }
                    elements.store(y, v);
                    continue;
                }
            }
            const C w = (C)found.w;
            if (HOW == COPIES || (w == 0 && !(SCALES && affine))) {
                elements.copy(found.x0 + d, y);
                continue;
            }
            elements.load(found.x0 + d, v);
            if (w != 0) {
                C x1[V];
                elements.load(found.x1 + d, x1);
                bool line = true;
                if constexpr (CURVES) {
                    if (part.method >= CATMULL_ROM) {
                        line = false;
                        const Around& around = places[i].around;
                        C x[4][V];
#pragma unroll
                        for (int j = 0; j < V; ++j) {
                            x[0][j] = x[1][j] = v[j];
                            x[2][j] = x[3][j] = x1[j];
                        }
                        if (around.left) elements.load(around.at[1] + d, x[1]);
                        if (around.right) elements.load(around.at[2] + d, x[2]);
                        if (around.left == 2) elements.load(around.at[0] + d, x[0]);
                        if (around.right == 2) elements.load(around.at[3] + d, x[3]);
#pragma unroll
                        for (int j = 0; j < V; ++j)
                            v[j] = hermite<C>(part.method, around, w, x[0][j], x[1][j], v[j],
                                              x1[j], x[2][j], x[3][j]);
                    }
                }
                if (line) {
#pragma unroll
                    for (int j = 0; j < V; ++j) v[j] = v[j] + w * (x1[j] - v[j]);
                }
            }
            if (SCALES && affine) {
#pragma unroll
                for (int j = 0; j < V; ++j) v[j] = statistics(v[j], SCALES ? j : 0);
            }
            elements.store(y, v);
        }
        if (packs < width) break;
    }
}

// A thread to a rotation.
template <typename E, int CLASS, typename P, typename W>
__device__ void write_rotation(const Part<W>& part, const void* data, void* out, const void* affine,
                               const int64* constants, const Place<CLASS, P>* places, int n) {
    typedef typename E::C C;
    const E elements(data, out, part.x, part.y);
    const int width = part.width, beyond = part.rotation_row - 3;
    for (int k = threadIdx.x; k < n * part.groups; k += blockDim.x) {
        const int target = part.groups == 1 ? k : k / part.groups;
        const Found<P>& found = places[target].found;
        const int64 d = (int64)(k - target * part.groups) * part.stride + part.column;
        const int64 y = found.y + d;
        if (found.code >= 0) {
            for (int i = 0; i < width; ++i)
                put_bits(part.y, out, y + i + i / 3 * beyond, constants[found.code]);
            continue;
        }
        C a[9] = {}, b[9] = {}, r[9] = {};
        const int64 x0 = found.x0 + d, x1 = found.x1 + d;
        if (E::V == 4) {
            elements.load(x0, a);
            elements.load(x1, b);
        } else {
#pragma unroll
            for (int i = 0; i < 9; ++i) {
                if (i < width) {
                    elements.load(x0 + i + i / 3 * beyond, a + i);
                    elements.load(x1 + i + i / 3 * beyond, b + i);
                }
            }
        }
        if (found.w != 0) {
            const bool defined =
                turn<C, C>(E::V == 4 && part.rotation != QUAT_WXYZ ? (int)QUAT_XYZW : part.rotation,
                           3, part.flags, a, b, (C)found.w, r);
            const Mark& mark = places[target].mark;
            if (!defined && mark.at) *mark.at = mark.undefined;
            if (!defined && part.fill) {
                for (int i = 0; i < width; ++i)
                    put_bits(part.y, out, y + i + i / 3 * beyond, constants[FILLED]);
                continue;
            }
        } else {
#pragma unroll
            for (int i = 0; i < 9; ++i) r[i] = a[i];
            if (part.rotation <= QUAT_WXYZ && part.flags & CANONICAL) {
                const Quaternion<C> q = as_stored(
                    part.rotation,
                    canonical(in_order<C>(part.rotation, {a[0], a[1], a[2], a[3]})));
                r[0] = q.x;
                r[1] = q.y;
                r[2] = q.z;
                r[3] = q.w;
            }
        }
        if (has_statistics(CLASS) && affine) {
#pragma unroll
            for (int i = 0; i < 9; ++i)
                if (i < width)
                    r[i] = normalised<C>(r[i], affine, part.affine_size, d + i + i / 3 * beyond);
        }
        if (E::V == 4) {
            elements.store(y, r);
        } else {
#pragma unroll
            for (int i = 0; i < 9; ++i)
                if (i < width) elements.store(y + i + i / 3 * beyond, r + i);
        }
    }
}

// Writes a part for n targets.
template <int CLASS, int CODE, int PLAIN, typename P, typename W>
__device__ void write_part(const Part<W>& part, const void* data, void* out, const void* affine,
                           const int64* constants, const Place<CLASS, P>* places, int64 begin, int n,
                           bool special) {
#define WRITE(HOW, X, Y, V) \
    write_columns<HOW, Elements<X, Y, V>>(part, data, out, affine, constants, places, n)
#define TURN(...) write_rotation<__VA_ARGS__>(part, data, out, affine, constants, places, n)
    if constexpr (CODE >= 0) {
        typedef typename Only<CODE>::type X;
        constexpr int V = sizeof(X) == 8 ? 2 : sizeof(X) == 4 || CLASS != SAMPLING ? 4 : 8;
        if constexpr (has_rotations(CLASS)) {
            if (part.rotation) {
                if (sizeof(X) == 4 && part.vector == 2) TURN(Elements<X, X, sizeof(X) == 4 ? 4 : 1>);
                else TURN(Elements<X, X, 1>);
                return;
            }
        }
        if constexpr (PLAIN && CLASS != REDUCING && CLASS != SCALED) {
            if (!special && part.groups == 1) {
#define CURVE(METHOD, N) \
    write_curves<METHOD, Elements<X, X, N>>(part, data, out, places, begin, n)
#define PLAINLY(N) \
    if constexpr (CLASS == CURVED) { \
        switch (part.method) { \
            case CATMULL_ROM: CURVE(CATMULL_ROM, N); return; \
            case PCHIP: CURVE(PCHIP, N); return; \
            case AKIMA: CURVE(AKIMA, N); return; \
            case MAKIMA: CURVE(MAKIMA, N); return; \
        } \
    } \
    write_plain<Elements<X, X, N>, PLAIN == 2>(part, data, out, affine, places, begin, n)
                if (part.vector == 2) {
                    PLAINLY(V);
                } else if (V > 2 && part.vector == 1) {
                    PLAINLY((V > 2 ? V / 2 : 1));
                } else {
                    PLAINLY(1);
                }
                return;
#undef PLAINLY
#undef CURVE
            }
        }
        if (part.vector == 2) WRITE(ALL, X, X, V);
        else WRITE(ALL, X, X, 1);
    } else {
        const int x = part.x, y = part.y;
        const bool wide = is_wide(x) || is_wide(y);
        if constexpr (has_rotations(CLASS)) {
            if (part.rotation) {
                if (wide) TURN(AnyElement<double>);
                else TURN(AnyElement<float>);
                return;
            }
        }
        if (has_reductions(CLASS) && part.method >= MEAN) {
            if (wide)
                write_columns<ALL, AnyElement<double>>(part, data, out, affine, constants, places, n);
            else
                write_columns<ALL, AnyElement<float>>(part, data, out, affine, constants, places, n);
        } else if (part.vector == 2 && part.method >= NEAREST && part.method <= NEXT && x == y &&
                   !affine) {
            switch (size_of(x)) {
                case 8: WRITE(COPIES, int64, int64, 2); return;
                case 4: WRITE(COPIES, int, int, 4); return;
                case 2: WRITE(COPIES, short, short, 8); return;
            }
            WRITE(COPIES, signed char, signed char, 16);
        } else if (part.vector == 2 && x == F32 && y == F32) {
            WRITE(SAMPLES, float, float, 4);
        } else if (part.vector == 2 && x == BF16 && y == BF16) {
            WRITE(SAMPLES, __nv_bfloat16, __nv_bfloat16, (CLASS == SAMPLING ? 8 : 4));
        } else if (part.vector == 2 && x == U8 && y == F32) {
            WRITE(SAMPLES, unsigned char, float, 4);
        } else if (part.vector == 2 && x == U8 && y == BF16) {
            WRITE(SAMPLES, unsigned char, __nv_bfloat16, 4);
        } else if (wide) {
            write_columns<SAMPLES, AnyElement<double>>(part, data, out, affine, constants, places, n);
        } else {
            write_columns<SAMPLES, AnyElement<float>>(part, data, out, affine, constants, places, n);
        }
    }
#undef WRITE
#undef TURN
}

// Blocks of 256 threads on a processor at once: as many as registers allow without spilling.
constexpr int blocks_at_once(int of, int code, int plain) {
    const int blocks = of == EVERYTHING ? 1
                       : code < 0 ? 2
                       : of == SAMPLING ? (plain ? 4 : code == F64 ? 2 : 3)
                       : plain && code != F64 ? (of == CURVED || of == SCALED ? 3 : 4) : 2;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    return blocks > 1 ? blocks - 1 : 1;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    return plain || blocks == 1 ? blocks : blocks - 1;
#else
    return blocks;
#endif
}
