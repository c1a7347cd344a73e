#pragma once
// Points of a batch of clouds, and the voxels of a lattice they lie in.

#include "common.cuh"
#include "cloud.table"

// What coordinates are computed in.
template <typename P> using Coordinate = typename Pick<sizeof(P) == 8>::type;

// The number of a voxel, where 32 bits hold it.
template <int> struct PickIndex { typedef int64 type; };
template <> struct PickIndex<1> { typedef int type; };

template <typename I> struct Unsigned;
template <> struct Unsigned<int> { typedef unsigned type; };
template <> struct Unsigned<int64> { typedef uint64 type; };

__device__ __forceinline__ int64 count_of(const Cloud& table, int64 b) {
    if (table.lengths == nullptr) return table.most;
    return clamp(load<int64>(table.lengths, table.lengths_width, b), 0, table.most);
}

__device__ __forceinline__ bool masked(const Cloud& table, int64 b, int64 n) {
    return table.mask != nullptr &&
           !__ldg((const unsigned char*)table.mask + b * table.mask_row + n * table.mask_step);
}

// A rigid transform: three rows of four.
template <typename C> struct Transform {
    C at[12];

    __device__ __forceinline__ Transform(const Cloud& table, int64 b) {
        if (!table.moving) return;
#pragma unroll
        for (int i = 0; i < 12; ++i)
            at[i] = table.transforms == nullptr
                        ? (C)table.transform[i]
                        : (C)load<double>(table.transforms, table.transforms_width,
                                          b * table.transforms_row + i);
    }

    // Summed in this order, without a fused multiply-add.
    __device__ __forceinline__ void apply(C p[3]) const {
        C moved[3];
#pragma unroll
        for (int i = 0; i < 3; ++i)
            moved[i] = ((at[4 * i] * p[0] + at[4 * i + 1] * p[1]) + at[4 * i + 2] * p[2]) +
                       at[4 * i + 3];
#pragma unroll
        for (int i = 0; i < 3; ++i) p[i] = moved[i];
    }
};

template <typename P>
__device__ __forceinline__ void load_point(const Cloud& table, int64 b, int64 n,
                                           Coordinate<P> p[3]) {
    const P* const at = (const P*)table.points + (b * table.batch + n * table.row);
#pragma unroll
    for (int i = 0; i < 3; ++i) p[i] = widen<Coordinate<P>>(__ldg(at + i));
}

// Whether a quotient is in [0, cells), and its whole part: by the bits of a float, in which numbers
// of the same sign have the order of integers, negative ones and NaN come after all others, and a
// number below 2^23 stands at the end of its sum with 2^23. -0 is no quotient: see below.
__device__ __forceinline__ bool within(float q, int cells) {
    return __float_as_uint(q) < __float_as_uint((float)cells);
}
__device__ __forceinline__ int whole(float q) {
    return (int)(__float_as_uint(__fadd_rz(q, 8388608.0f)) & 0x7fffffu);
}
__device__ __forceinline__ bool within(double q, int cells) { return q >= 0 && q < (double)cells; }
__device__ __forceinline__ int whole(double q) { return (int)q; }

// The lattice of one cloud: its voxel (i, j, k) is the half-open box from origin + (i, j, k) * size.
template <typename C> struct Lattice {
    C origin[3], size[3], reciprocal[3];
    int grid[3];
    bool clamped;

    __device__ __forceinline__ Lattice(const Cloud& table, int64 b) {
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            origin[i] = table.origins == nullptr
                            ? (C)table.lattice[i]
                            : (C)load<double>(table.origins, table.origins_width,
                                              b * table.origins_row + i);
            size[i] = (C)table.lattice[3 + i];
            reciprocal[i] = (C)table.lattice[6 + i];
            grid[i] = (int)table.grid[i];
        }
        clamped = table.clamped;
    }

    // d / size, correctly rounded, as the hardware's own division does it, but with a reciprocal
    // that serves all points: of two corrections the first makes the quotient faithful, and the
    // second correct (Markstein). One correction is wrong for a few sizes. A correction adds +0 to
    // what is -0, so that no quotient is.
    __device__ __forceinline__ C quotient(C d, int i) const {
        C q = d * reciprocal[i];
        q = fma(fma(-q, size[i], d), reciprocal[i], q);
        return fma(fma(-q, size[i], d), reciprocal[i], q);
    }

    // The voxel of a point, and whether it is on the lattice. NaN fails every comparison. STRICT:
    // points outside are dropped.
    template <int STRICT = 0>
    __device__ __forceinline__ bool locate(const C p[3], int voxel[3]) const {
        bool inside = true;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            const C q = quotient(p[i] - origin[i], i);
            if (!STRICT && clamped) {
                const C d = p[i] - origin[i];
                inside &= p[i] - p[i] == 0;  // finite
                voxel[i] = q >= (C)grid[i] || q - q != 0 ? (d > 0 ? grid[i] - 1 : 0)
                           : q > 0                       ? (int)q
                                                         : 0;
            } else {
                inside &= within(q, grid[i]);
                voxel[i] = whole(q);
            }
        }
        return inside;
    }

    // The number of a voxel; of one that is not on the lattice, anything.
    template <typename I> __device__ __forceinline__ I linear(const int voxel[3]) const {
        typedef typename Unsigned<I>::type U;
        return (I)(((U)voxel[0] * (U)grid[1] + (U)voxel[1]) * (U)grid[2] + (U)voxel[2]);
    }
};

// Elements of which some bits tell whether they are `one` or 0, in a word of 32 bits.
template <typename U> __device__ __forceinline__ unsigned spread(unsigned bits, unsigned one);
template <> __device__ __forceinline__ unsigned spread<unsigned char>(unsigned bits, unsigned) {
    return ((bits & 15) * 0x00204081u) & 0x01010101u;
}
template <> __device__ __forceinline__ unsigned spread<unsigned short>(unsigned bits, unsigned one) {
    return ((bits & 1) | (bits & 2) << 15) * one;
}
template <> __device__ __forceinline__ unsigned spread<unsigned>(unsigned bits, unsigned one) {
    return (bits & 1) * one;
}

template <typename C> __device__ __forceinline__ C not_a_number();
template <> __device__ __forceinline__ float not_a_number<float>() {
    return __uint_as_float(0x7fc00000u);
}
template <> __device__ __forceinline__ double not_a_number<double>() {
    return __longlong_as_double(0x7ff8000000000000ll);
}
