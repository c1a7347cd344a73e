#pragma once
// Parts: columns of a stream that are made in one way, located and written by a block for a tile of
// targets. robocache_cupy/_cpu/part.py defines what these do.
//
// dtype and method are codes, switched once for a block. The pairs of dtypes that most data come in
// have code of their own, which moves 16 bytes at a time; the rest goes element by element.
// LEVEL 0 knows linear interpolation and copies, LEVEL 1 everything.

#include "locate.cuh"
#include "rotation.cuh"

enum Flag {
    NARROW_TIMES = 1, NARROW_LENGTHS = 2, NARROW_OFFSETS = 4, NARROW_LATENCIES = 8, TOLERANT = 16,
    REFLECT = 32
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

// The samples of row b of a stream.
template <typename W, typename Table>
__device__ __forceinline__ Row<W> stream_row(const Table& table, const Stream<W>& s, int64 b,
                                             double ticks) {
    return row_of(b, s.samples, table.at[s.times], (const int64*)table.at[s.order],
                  table.at[s.lengths], table.at[s.offsets], table.at[s.latencies],
                  s.src_row_or_episodes, s.src_step, s.flags & NARROW_TIMES ? 4 : 8, s.flags & NARROW_LENGTHS ? 4 : 8,
                  s.flags & NARROW_OFFSETS ? 4 : 8, s.flags & NARROW_LATENCIES ? 4 : 8, s.latency,
                  of_bits<W>(table.constants[s.uniform]),
                  of_bits<double>(table.constants[s.uniform + 1]), ticks);
}

// ----------------------------------------------------------------------------------------- places

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
template <int LEVEL> struct Place {
    int64 x0, x1, y;  // in elements
    double w;
    int code;  // of a constant, or -1
};
// With the samples around the two, the ratios of their distances, and the span of a reduction.
template <> struct Place<1> {
    int64 x0, x1, y;
    double w;
    int code;
    bool *mark, undefined;  // where to say that a rotation is undefined, and how
    int left, right;  // neighbours there are on each side, at most 2
    int64 around[4];  // y[-2], y[-1], y[2], y[3]
    Number ratio[4];  // length of the interval over that of its neighbours -1, 1, -2, 2
    Number weight[4];  // of slopes: two at each end
    const int64* order;
    int64 lo, n;  // of a reduction: samples lo to lo + n in time
};

// The neighbours of an interval, and what its slopes are made of. A repeated stamp is a jump, which
// ends a curve.
template <typename C, typename W>
__device__ void stencil(const Row<W>& row, int64 i0, int64 i1, int64 start, int64 step, int method,
                        Place<1>& place) {
    const W t0 = row.at(i0), t1 = row.at(i1);
    const C h = (C)elapsed(t1, t0);
    C left = h, right = h, far_left = h, far_right = h;
    place.left = place.right = 0;
    if (i0 > 0) {
        const W t = row.at(i0 - 1);
        if (t < t0) {
            place.left = 1;
            left = (C)elapsed(t0, t);
            place.around[1] = start + row.position(i0 - 1) * step;
            if (i0 > 1 && method >= AKIMA) {
                const W u = row.at(i0 - 2);
                if (u < t) {
                    place.left = 2;
                    far_left = (C)elapsed(t, u);
                    place.around[0] = start + row.position(i0 - 2) * step;
                }
            }
        }
    }
    if (i1 + 1 < row.n) {
        const W t = row.at(i1 + 1);
        if (!is_nan(t) && t > t1) {
            place.right = 1;
            right = (C)elapsed(t, t1);
            place.around[2] = start + row.position(i1 + 1) * step;
            if (i1 + 2 < row.n && method >= AKIMA) {
                const W u = row.at(i1 + 2);
                if (!is_nan(u) && u > t) {
                    place.right = 2;
                    far_right = (C)elapsed(u, t);
                    place.around[3] = start + row.position(i1 + 2) * step;
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

// Locates one target of a part. `row` is that of the target, `start` its first sample in data.
template <int LEVEL, typename W>
__device__ __forceinline__ bool locate_part(const Stream<W>& stream, const Part<W>& part,
                                            const Row<W>& row, W before, W q, W after, bool given,
                                            int64 start, Place<LEVEL>& place, int64& index) {
    const bool wide = is_wide(part.x) || is_wide(part.y);
    const int method = LEVEL && part.method >= CATMULL_ROM
                           ? (part.method >= MEAN ? (int)NEAREST : (int)LINEAR)
                           : part.method;
    const Locator<double, W> locate{row, method, part.left, part.right, stream.tolerance,
                                    stream.flags & TOLERANT ? stream.tolerance : (W)-1, stream.max_gap,
                                    !wide};
    Blend<double> blend = Locator<double, W>::constant(EMPTY);
    bool reduces = false;
    if (given) {
        if (LEVEL && part.method >= MEAN && !is_nan(q)) {
            Place<1>& full = (Place<1>&)place;
            int64 lo, hi;
            row.interval(before, q, after, lo, hi);
            if (hi > lo) {
                reduces = true;
                full.lo = lo;
                full.n = hi - lo;
                full.order = row.order;
                blend = {lo, lo, 0.0, true};
            } else if (part.method != SUM && part.method != ANY) {
                blend = locate(q, row.upper_bound(q));
                blend.valid = false;
            }
        } else {
            blend = locate(q, row.upper_bound(q));
        }
    }
    if (part.fill && !blend.valid) blend = Locator<double, W>::constant(FILLED);
    place.w = blend.w;
    place.code = -1;
    if (LEVEL && !reduces) ((Place<1>&)place).n = 0;
    if (blend.i0 < 0) {
        place.code = (int)(-1 - blend.i0);
        place.x0 = place.x1 = 0;
        index = -1;
    } else {
        const int64 step = part.data_step;
        index = row.position(blend.i0);
        place.x0 = start + index * step;
        place.x1 = start + row.position(blend.i1) * step;
        if (LEVEL && reduces) place.x0 = start;
        if (LEVEL && blend.w != 0 && part.method >= CATMULL_ROM) {
            Place<1>& full = (Place<1>&)place;
            if (wide) stencil<double>(row, blend.i0, blend.i1, start, step, part.method, full);
            else stencil<float>(row, blend.i0, blend.i1, start, step, part.method, full);
        }
    }
    return blend.valid;
}

// --------------------------------------------------------------------------------------- elements

// V elements at a time of dtypes known at compile time.
template <typename X, typename Y, int N> struct Elements {
    typedef Computed<X, Y> C;
    static constexpr int V = N;
    const X* x;
    Y* y;
    __device__ __forceinline__ Elements(const void* data, void* out, int, int)
        : x((const X*)data), y((Y*)out) {}
    __device__ __forceinline__ void load(int64 i, C* v) const {
        const Pack<X, V> pack = load_pack<X, V>(x + i);
#pragma unroll
        for (int k = 0; k < V; ++k) v[k] = widen<C>(pack.at[k]);
    }
    __device__ __forceinline__ void store(int64 i, const C* v) const {
        Pack<Y, V> pack;
#pragma unroll
        for (int k = 0; k < V; ++k) pack.at[k] = Narrow<Y>::of(v[k]);
        store_pack<Y, V>(y + i, pack);
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
    if (sum <= (C)1e-9 * largest) return modified ? (C)0 : (C)0.5 * (m4 + m1);
    return sum == 0 ? (C)0 : (a * m2 + b * m3) / sum;
}

// The cubic of an interval, in units of its length. Neighbours that are missing are not read.
template <typename C>
__device__ __forceinline__ C hermite(int method, const Place<1>& p, C w, C far_left, C left, C y0,
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
template <typename C>
__device__ __forceinline__ C normalised(C x, const C* affine, int size, int column) {
    const C* a = affine + (size == 1 ? 0 : column % size);
    const C y = (x - __ldg(a)) * __ldg(a + size) + __ldg(a + 2 * size);
    const C low = __ldg(a + 3 * size), high = __ldg(a + 4 * size);
    return y < low ? low : y > high ? high : y;
}

// ---------------------------------------------------------------------------------------- writing

// A thread keeps to its columns and goes from target to target. HOW says what code is wanted: for
// copies, for lines too, or for everything.
enum How { COPIES, LINES, CURVES };

template <int LEVEL, int HOW, typename E, typename W>
__device__ void write_columns(const Part<W>& part, const void* data, void* out, const void* affine,
                              const int64* constants, const Place<LEVEL>* places, int n) {
    typedef typename E::C C;
    constexpr int V = E::V;
    const E elements(data, out, part.x, part.y);
    const int per_group = part.width / V, packs = per_group * part.groups;
    if (packs == 0) return;
    const int width = blockDim.x;
    const int rows = packs < width ? width / packs : 1;  // that the block writes at once
    const int row = packs < width ? threadIdx.x / packs : 0;
    if (row >= rows) return;
    for (int k = threadIdx.x - row * packs; k < packs; k += width) {
        int64 d = (int64)k * V + part.column;
        if (part.groups > 1) {
            const int group = k / per_group;
            d = (int64)group * part.stride + part.column + (k - group * per_group) * V;
        }
        for (int i = row; i < n; i += rows) {
            const Place<LEVEL>& place = places[i];
            const int64 y = place.y + d;
            if (place.code >= 0) {
                elements.fill(y, constants[place.code]);
                continue;
            }
            const C w = (C)place.w;
            if (HOW == COPIES || (w == 0 && !(HOW == CURVES && affine))) {
                elements.copy(place.x0 + d, y);
                continue;
            }
            C v[V];
            elements.load(place.x0 + d, v);
            if (w != 0) {
                C x1[V];
                elements.load(place.x1 + d, x1);
                if (HOW == CURVES && part.method >= CATMULL_ROM) {
                    const Place<1>& full = (const Place<1>&)place;
                    C x[4][V];
#pragma unroll
                    for (int j = 0; j < V; ++j) {
                        x[0][j] = x[1][j] = v[j];
                        x[2][j] = x[3][j] = x1[j];
                    }
                    if (full.left) elements.load(full.around[1] + d, x[1]);
                    if (full.right) elements.load(full.around[2] + d, x[2]);
                    if (full.left == 2) elements.load(full.around[0] + d, x[0]);
                    if (full.right == 2) elements.load(full.around[3] + d, x[3]);
#pragma unroll
                    for (int j = 0; j < V; ++j)
                        v[j] = hermite<C>(part.method, full, w, x[0][j], x[1][j], v[j], x1[j],
                                          x[2][j], x[3][j]);
                } else {
#pragma unroll
                    for (int j = 0; j < V; ++j) v[j] = v[j] + w * (x1[j] - v[j]);
                }
            }
            if (HOW == CURVES && affine) {
#pragma unroll
                for (int j = 0; j < V; ++j)
                    v[j] = normalised<C>(v[j], (const C*)affine, part.affine_size, (int)(d + j));
            }
            elements.store(y, v);
        }
        if (packs < width) break;
    }
}

// The samples of a span, in the order of time, so that sums repeat.
template <typename X, typename W>
__device__ __forceinline__ X extreme(const Part<W>& part, const X* x, const Place<1>& p, int64 d) {
    X best{};
    for (int64 k = 0; k < p.n; ++k) {
        const int64 i = p.order ? p.order[p.lo + k] : p.lo + k;
        const X v = __ldg(x + p.x0 + i * part.data_step + d);
        if (k == 0 || v != v || (part.method == MAX ? v > best : v < best)) best = v;
        if (v != v) break;  // what is not a number stays
    }
    return best;
}
template <typename C, typename W>
__device__ C reduced(const Part<W>& part, const void* data, const Place<1>& p, int64 d) {
    C total = 0;
    for (int64 k = 0; k < p.n; ++k) {
        const int64 i = p.order ? p.order[p.lo + k] : p.lo + k;
        const C v = read<C>(part.x, data, p.x0 + i * part.data_step + d);
        if (part.method == ANY) {
            if (v != 0) return 1;
        } else if (part.method < MAX) {
            total = total + v;
        } else if (k == 0 || v != v || (part.method == MAX ? v > total : v < total)) {
            total = v;
            if (v != v) return v;
        }
    }
    return part.method == MEAN ? total / (C)p.n : total;
}
template <typename C, typename W>
__device__ void write_reduced(const Part<W>& part, const void* data, void* out, const void* affine,
                              const int64* constants, const Place<1>* places, int n) {
    const int columns = part.width * part.groups;
    for (int64 k = threadIdx.x; k < (int64)n * columns; k += blockDim.x) {
        const Place<1>& place = places[k / columns];
        const int column = (int)(k % columns);
        const int group = column / part.width;
        const int64 d = (int64)group * part.stride + part.column + (column - group * part.width);
        const int64 y = place.y + d;
        if (place.code >= 0) {
            put_bits(part.y, out, y, constants[place.code]);
        } else if (place.n == 0 && part.x == part.y && !affine) {  // held
            put_bits(part.y, out, y, bits_at(part.x, data, place.x0 + d));
        } else if (place.n && part.x == part.y && !affine && part.x == I64 && part.method >= MAX &&
                   part.method != ANY) {
            ((int64*)out)[y] = extreme(part, (const int64*)data, place, d);
        } else if (place.n && part.x == part.y && !affine && part.x == U64 && part.method >= MAX &&
                   part.method != ANY) {
            ((uint64*)out)[y] = extreme(part, (const uint64*)data, place, d);
        } else {
            C v = place.n ? reduced<C>(part, data, place, d) : read<C>(part.x, data, place.x0 + d);
            if (affine) v = normalised<C>(v, (const C*)affine, part.affine_size, (int)d);
            put<C>(part.y, out, y, v);
        }
    }
}

// A thread to a rotation.
template <typename C, typename W>
__device__ void write_rotation(const Part<W>& part, const void* data, void* out, const void* affine,
                               const int64* constants, const Place<1>* places, int n) {
    const int width = part.width;
    for (int k = threadIdx.x; k < n * part.groups; k += blockDim.x) {
        const Place<1>& place = places[k / part.groups];
        const int64 d = (int64)(k % part.groups) * part.stride + part.column;
        const int64 y = place.y + d;
        const int rows = part.rotation_row;
        if (place.code >= 0) {
            for (int i = 0; i < width; ++i)
                put_bits(part.y, out, y + i + i / 3 * (rows - 3), constants[place.code]);
            continue;
        }
        C a[9] = {}, b[9] = {}, r[9] = {};
        const bool vector = part.vector && part.x == F32 && part.y == F32 && width == 4;
        const int64 x0 = place.x0 + d, x1 = place.x1 + d;
        if (vector) {
            const Pack<float, 4> p = load_pack<float, 4>((const float*)data + x0);
            const Pack<float, 4> q = load_pack<float, 4>((const float*)data + x1);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                a[i] = (C)p.at[i];
                b[i] = (C)q.at[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < 9; ++i) {
                if (i < width) {
                    a[i] = read<C>(part.x, data, x0 + i + i / 3 * (rows - 3));
                    b[i] = read<C>(part.x, data, x1 + i + i / 3 * (rows - 3));
                }
            }
        }
        bool defined = true;
        if (place.w != 0) {
            defined = turn<C, C>(part.rotation, 3, part.flags, a, b, (C)place.w, r);
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
        if (!defined && place.mark) *place.mark = place.undefined;
        if (vector && !affine) {
            Pack<float, 4> p;
#pragma unroll
            for (int i = 0; i < 4; ++i) p.at[i] = (float)r[i];
            store_pack<float, 4>((float*)out + y, p);
            continue;
        }
#pragma unroll
        for (int i = 0; i < 9; ++i) {
            if (i < width) {
                const int at = i + i / 3 * (rows - 3);
                C v = r[i];
                if (affine) v = normalised<C>(v, (const C*)affine, part.affine_size, (int)(d + at));
                put<C>(part.y, out, y + at, v);
            }
        }
    }
}

// Writes a part for n targets.
template <int LEVEL, typename W>
__device__ void write_part(const Part<W>& part, const void* data, void* out, const void* affine,
                           const int64* constants, const Place<LEVEL>* places, int n) {
#define WRITE(HOW, X, Y, V) \
    write_columns<LEVEL, HOW, Elements<X, Y, V>>(part, data, out, affine, constants, places, n)
#define WRITE_PACKED(HOW, X, Y, V) \
    do { \
        if (part.vector) WRITE(HOW, X, Y, V); \
        else WRITE(HOW, X, Y, 1); \
    } while (0)
    constexpr int ALL = LEVEL ? CURVES : LINES;
    const int x = part.x, y = part.y;
    const bool wide = is_wide(x) || is_wide(y);
    if (LEVEL) {
        const Place<1>* full = (const Place<1>*)places;
        if (part.rotation) {
            if (wide) write_rotation<double>(part, data, out, affine, constants, full, n);
            else write_rotation<float>(part, data, out, affine, constants, full, n);
            return;
        }
        if (part.method >= MEAN) {
            if (wide) write_reduced<double>(part, data, out, affine, constants, full, n);
            else write_reduced<float>(part, data, out, affine, constants, full, n);
            return;
        }
    }
    const bool copies = part.method >= NEAREST && part.method <= NEXT && x == y && !affine;
    if (copies) {
        switch (size_of(x)) {
            case 8: WRITE_PACKED(COPIES, int64, int64, 2); return;
            case 4: WRITE_PACKED(COPIES, int, int, 4); return;
            case 2: WRITE_PACKED(COPIES, short, short, 8); return;
        }
        WRITE_PACKED(COPIES, signed char, signed char, 16);
    } else if (x == F32 && y == F32) {
        WRITE_PACKED(ALL, float, float, 4);
    } else if (x == F64 && y == F64) {
        WRITE_PACKED(ALL, double, double, 2);
    } else if (x == BF16 && y == BF16 && (!LEVEL || part.vector)) {
        if (part.vector) WRITE(ALL, __nv_bfloat16, __nv_bfloat16, (LEVEL ? 4 : 8));
        else if (!LEVEL) WRITE(ALL, __nv_bfloat16, __nv_bfloat16, (LEVEL ? 4 : 1));
    } else if (x == F16 && y == F16 && (!LEVEL || part.vector)) {
        if (part.vector) WRITE(ALL, __half, __half, (LEVEL ? 4 : 8));
        else if (!LEVEL) WRITE(ALL, __half, __half, (LEVEL ? 4 : 1));
    } else if (LEVEL && part.vector && x == U8 && y == F32) {
        WRITE(ALL, unsigned char, float, 4);
    } else if (LEVEL && part.vector && x == U8 && y == BF16) {
        WRITE(ALL, unsigned char, __nv_bfloat16, 4);
    } else if (LEVEL && part.vector && x == U8 && y == F16) {
        WRITE(ALL, unsigned char, __half, 4);
    } else if (wide) {
        write_columns<LEVEL, ALL, AnyElement<double>>(part, data, out, affine, constants, places, n);
    } else {
        write_columns<LEVEL, ALL, AnyElement<float>>(part, data, out, affine, constants, places, n);
    }
#undef WRITE
#undef WRITE_PACKED
}
