// Depth images to points and to voxels. What each kernel computes is defined by the function of the
// same name in robocache_cupy/_cpu/depth.py; the struct's fields are those of _core/table.py.

#include "cloud.cuh"

// A pixel (u, v) of depth z is seen along the ray R * ((u - cx) / fx, (v - cy) / fy, 1): the sum of
// a part of its column and one of its row. Both are made once for each camera, so that a pixel
// takes one addition, one multiplication and one addition for each coordinate.
//
//     rays of an image:  [3, width] of columns, [3, height] of rows, and where depth is measured
//                        along the ray, the squares that its length is made of, [width], [height]

constexpr int RAY = 4;  // rows of the table, for columns and for rows

// Which of so many cameras took an image. 64-bit divisions would cost a tile more than its rays.
__device__ __forceinline__ int64 turn(int64 image, int64 cameras) {
    return (unsigned)image % (unsigned)cameras;
}

// The numbers of a camera.
struct Camera {
    double fx, fy, cx, cy, at[12];

    __device__ __forceinline__ Camera(const Cloud& table, int64 image) {
        if (table.intrinsics == nullptr) {
            fx = table.pinhole[0];
            fy = table.pinhole[1];
            cx = table.pinhole[2];
            cy = table.pinhole[3];
        } else {
            const int64 columns = table.intrinsics_columns;
            const int64 first = turn(image, table.intrinsics_cycle) * table.intrinsics_row;
            const auto number = [&](int64 i) {
                return load<double>(table.intrinsics, table.intrinsics_width, first + i);
            };
            fx = number(0);
            fy = number(columns == 0 ? 1 : columns + 1);
            cx = number(2);
            cy = number(columns == 0 ? 3 : columns + 2);
        }
#pragma unroll
        for (int i = 0; i < 12; ++i)
            at[i] = !table.moving ? (double)(i % 5 == 0)
                    : table.transforms == nullptr
                        ? table.transform[i]
                        : load<double>(table.transforms, table.transforms_width,
                                       turn(image, table.transforms_cycle) * table.transforms_row + i);
    }
};

template <typename C> struct Rays {
    const C* columns;
    const C* rows;
    int64 width, height;

    __device__ __forceinline__ Rays(const Cloud& table, int64 image)
        : width(table.width), height(table.height) {
        columns = (const C*)table.rays + image * RAY * (width + height);
        rows = columns + RAY * width;
    }
};

// Clears the bits of all voxels, too: `words` of them.
template <typename C>
__global__ void __launch_bounds__(256) camera_rays(const __grid_constant__ Cloud table) {
    const int64 stride = (int64)gridDim.x * blockDim.x;
    const int64 thread = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned* const bits = (unsigned*)table.sorted;
    for (int64 i = thread; i < table.words; i += stride) bits[i] = 0;
    const int64 width = table.width, each = width + table.height;
    for (int64 i = thread; i < table.images * each; i += stride) {
        const int64 image = i / each, at = i - image * each;
        const Camera camera(table, image);
        const double sign = table.upward ? -1.0 : 1.0;  // of y and z, in a camera that looks along -z
        C* const rays = (C*)table.rays + image * RAY * each;
        if (at < width) {
            const double a = (((double)(at * table.stride) + table.pixel_offset) - camera.cx) / camera.fx;
#pragma unroll
            for (int k = 0; k < 3; ++k) rays[k * width + at] = (C)(camera.at[4 * k] * a);
            rays[3 * width + at] = (C)(a * a + 1.0);
        } else {
            const int64 v = at - width;
            const double b =
                (((double)(v * table.stride) + table.pixel_offset) - camera.cy) / camera.fy;
            C* const rows = rays + RAY * width;
#pragma unroll
            for (int k = 0; k < 3; ++k)
                rows[k * table.height + v] =
                    (C)(camera.at[4 * k + 1] * (sign * b) + camera.at[4 * k + 2] * sign);
            rows[3 * table.height + v] = (C)(b * b);
        }
    }
}

// What one camera adds to its rays.
template <typename C> struct Position {
    C at[3];

    __device__ __forceinline__ Position(const Cloud& table, int64 image) {
#pragma unroll
        for (int k = 0; k < 3; ++k)
            at[k] = !table.moving ? (C)0
                    : table.transforms == nullptr
                        ? (C)table.transform[4 * k + 3]
                        : (C)load<double>(
                              table.transforms, table.transforms_width,
                              turn(image, table.transforms_cycle) * table.transforms_row + 4 * k + 3);
    }
};

//     ┌──────────── width ────────────┐     A thread goes down a column, whose ray it keeps, through
//     │ ║║║║║║║║ │         │          │     the rows of a tile; their rays lie in shared memory.
//     │ ▼▼▼▼▼▼▼▼ │         │          │     Neighbours of a warp are neighbours in the image, and
//     └───────────────────────────────┘     mostly see the same voxel.
//
// A thread has some pixels under way at once: one after another they would wait for memory.
constexpr int TILE = 128, STRIP = 32;  // columns and rows of a tile
constexpr int AT_ONCE = 8;

// A column of a tile: its part of the rays, and the parts of the tile's rows.
template <typename C> struct Column {
    C at[RAY];
    const Pack<C, RAY>* rows;
    Position<C> position;

    __device__ __forceinline__ C ray(int row, int k) const { return at[k] + rows[row].at[k]; }

    // What the pixel in a row of the tile shows, at depth z.
    __device__ __forceinline__ void point(C z, int row, C p[3]) const {
#pragma unroll
        for (int k = 0; k < 3; ++k) p[k] = z * ray(row, k) + position.at[k];
    }
};

// f(image, top, u, column) makes what is called with (row, z, valid, from) for AT_ONCE pixels of a
// column, from a row of the tile on that begins at `top`: their depths along the axis, whether they
// are valid, and where they were read. ON_AXIS: they were measured along it, too.
template <typename D, int ON_AXIS, typename F>
__device__ __forceinline__ void each_pixels(const Cloud& table, const F& f) {
    typedef Coordinate<D> C;
    __shared__ Pack<C, RAY> rows[STRIP];
    const int width = (int)table.width, height = (int)table.height;
    const int across = (width + TILE - 1) / TILE, down = (height + STRIP - 1) / STRIP;
    const C scale = (C)table.scale, near = (C)table.near, far = (C)table.far;
    for (int64 block = blockIdx.x; block < table.images * across * down; block += gridDim.x) {
        const int64 image = (unsigned)block / (unsigned)(across * down);
        const int tile = (int)(block - image * (across * down));
        const int top = tile / across * STRIP, left = tile % across * TILE;
        const Rays<C> rays(table, image);
        __syncthreads();
        for (int i = threadIdx.x; i < RAY * STRIP; i += blockDim.x) {
            const int v = top + i / RAY;
            rows[i / RAY].at[i % RAY] = v < height ? rays.rows[i % RAY * height + v] : (C)0;
        }
        __syncthreads();
        for (int u = left + (int)threadIdx.x; u < width && u < left + TILE; u += blockDim.x) {
            Column<C> column{{}, rows, Position<C>(table, image)};
#pragma unroll
            for (int k = 0; k < RAY; ++k) column.at[k] = __ldg(rays.columns + k * width + u);
            const D* from = (const D*)table.points + image * table.image + top * table.image_row +
                            (int64)u * table.image_step;
            const int64 step = table.image_row;
            auto see = f(image, top, u, column);
#pragma unroll 1
            for (int v = 0; v < STRIP && top + v < height; v += AT_ONCE) {
                const int rest = height - top - v;
                Pack<D, AT_ONCE> depth;
                memset(&depth, 0, sizeof(depth));  // where there is no row: no depth
                if (rest >= AT_ONCE) {
#pragma unroll
                    for (int j = 0; j < AT_ONCE; ++j) depth.at[j] = __ldg(from + j * step);
                } else {
#pragma unroll
                    for (int j = 0; j < AT_ONCE; ++j)
                        if (j < rest) depth.at[j] = __ldg(from + j * step);
                }
                C z[AT_ONCE];
                bool valid[AT_ONCE];
#pragma unroll
                for (int j = 0; j < AT_ONCE; ++j) {
                    z[j] = widen<C>(depth.at[j]) * scale;
                    if (!ON_AXIS) z[j] = z[j] / sqrt(column.at[3] + rows[v + j].at[3]);
                    valid[j] = (z[j] > near) & (z[j] <= far);
                }
                see(v, z, valid, from);
                from += AT_ONCE * step;
            }
        }
    }
}

template <typename D>
__global__ void __launch_bounds__(128, sizeof(D) == 8 ? 2 : 4)
    depth_points(const __grid_constant__ Cloud table) {
    typedef Coordinate<D> C;
    const int64 width = table.width, height = table.height;
    const auto put = [&](int64 image, int top, int u, const Column<C>& column) {
        C* const out = (C*)table.out + ((image * height + top) * width + u) * 3;
        const int64 rest = height - top;
        return [=](int row, const C z[AT_ONCE], const bool valid[AT_ONCE], const D*) {
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                if (row + j >= rest) break;
                C* const p = out + (row + j) * width * 3;
                C point[3];
                column.point(z[j], row + j, point);
#pragma unroll
                for (int k = 0; k < 3; ++k) p[k] = valid[j] ? point[k] : not_a_number<C>();
            }
        };
    };
    if (table.along_ray) each_pixels<D, 0>(table, put);
    else each_pixels<D, 1>(table, put);
}

// ------------------------------------------------------------------------- images to bits of voxels

// Where pixels lie on a lattice, in fixed point and by one fused multiply-add for each axis:
//
//     z / size * ray + (position - origin) / size + 1.5 * 2^(23 - fraction)
//
// is a float whose last bits are the cell and `fraction` bits of what is beyond its edge. A pixel is
// sure to lie in that cell, or outside, unless it is nearer to an edge than the errors. One in some
// hundreds is not sure, and is located exactly.
//
// The errors, in cells: u = 2^-24 is the rounding of a float, h = 2^-fraction, o = |origin| / size,
// d = |position - origin| / size. An exact location rounds the product m of depth and ray, its sum p
// with the position, the distance e of that from the origin, and the quotient q, which is e here. As
// m <= e + d and p <= e + o,
//     an exact location is off by  u (m + p + e + q) <= u (4 q + d + o),
//     the fixed point by           2 u m + 3 u d + h <= u (2 q + 5 d) + h.
struct FixedPoint {
    float reciprocal[3], offset[3];
    unsigned base, sure;
    int fraction;

    __device__ __forceinline__ FixedPoint(const Lattice<float>& lattice,
                                          const Position<float>& position) {
        float reach = 2, error = 0;
        bool known = true;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            reciprocal[k] = lattice.reciprocal[k];
            offset[k] = (position.at[k] - lattice.origin[k]) * reciprocal[k];
            const float d = fabsf(offset[k]), q = (float)lattice.grid[k] + 1;
            const float off = 6 * (q + d) + fabsf(lattice.origin[k]) * reciprocal[k];
            known &= d < 16384 && q < 16384 && off < 1e6f;  // of NaN: not
            reach = max(reach, max(d, q));
            error = max(error, off);
        }
        // 2^22 units and more are on either side of the number that is added.
        fraction = known ? 22 + 126 - (int)(__float_as_uint(reach) >> 23) : 8;
        const float middle = (float)(3 << (22 - fraction));
        // In units, and a tenth more for what is rounded here and errors of errors.
        const float units = 1.1f + 1.1f * error * (float)(1 << fraction) / 16777216.0f;
        const unsigned margin = known ? 1u << ((int)(__float_as_uint(units) >> 23) - 126) : 1;
        const unsigned whole = 1u << fraction;
        sure = known && 2 * margin < whole ? (whole - 1) & ~(2 * margin - 1) : 0;
        base = __float_as_uint(middle) - margin;
#pragma unroll
        for (int k = 0; k < 3; ++k) offset[k] += middle;
    }

    __device__ __forceinline__ unsigned at(float z, float ray, int k) const {
        return __float_as_uint(fma(z * reciprocal[k], ray, offset[k])) - base;
    }
};

// Sets the bits of voxels that a column sees one after another; -1 is none.
template <typename I> struct Marks {
    unsigned* bits;
    I last;

    __device__ __forceinline__ void operator()(const I voxels[AT_ONCE]) {
        unsigned words[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) {
            words[j] = ~0u;
            if (voxels[j] >= 0 && voxels[j] != (j == 0 ? last : voxels[j - 1]))
                // What the cache holds may be old, which costs no more than an atomic.
                words[j] = bits[voxels[j] >> 5];
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) {
            const unsigned bit = 1u << (voxels[j] & 31);
            if (!(words[j] & bit)) atomicOr(bits + (voxels[j] >> 5), bit);
        }
        last = voxels[AT_ONCE - 1];
    }
};

// Blocks on a processor at once: as many as registers allow without spilling.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int PLAIN_MARKS = 5;
#else
constexpr int PLAIN_MARKS = 6;
#endif

// PLAIN: depth on the axis, pixels outside dropped, and voxels numbered by 32 bits.
template <typename D, int PLAIN>
__global__ void __launch_bounds__(128, sizeof(D) == 8 ? 2 : PLAIN ? PLAIN_MARKS : 4)
    mark_depth(const __grid_constant__ Cloud table) {
    typedef Coordinate<D> C;
    typedef typename PickIndex<PLAIN>::type Index;
    const auto mark = [&](int64 image, int, int, const Column<C>& column) {
        const int64 cloud = (unsigned)image / (unsigned)table.views;
        const Lattice<C> lattice(table, cloud);
        Marks<Index> marks{(unsigned*)table.sorted + cloud * table.out_batch, -1};
        return [=, &column](int row, const C z[AT_ONCE], const bool valid[AT_ONCE],
                            const D*) mutable {
            Index voxels[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                C p[3];
                int voxel[3];
                column.point(z[j], row + j, p);
                // No branches: pixels would wait for each other.
                const bool inside = lattice.template locate<PLAIN>(p, voxel) & valid[j];
                const Index here = lattice.template linear<Index>(voxel);
                voxels[j] = inside ? here : (Index)-1;
            }
            marks(voxels);
        };
    };
    const auto mark_sure = [&](int64 image, int, int, const Column<float>& column) {
        const int64 cloud = (unsigned)image / (unsigned)table.views;
        const Lattice<float> lattice(table, cloud);
        const FixedPoint fixed(lattice, column.position);
        Marks<int> marks{(unsigned*)table.sorted + cloud * table.out_batch, -1};
        return [=, &table, &column](int row, const float z[AT_ONCE], const bool valid[AT_ONCE],
                                    const D* from) mutable {
            int voxels[AT_ONCE];
            unsigned unsure = 0;
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                unsigned at[3];
                bool inside = valid[j], sure = true;
#pragma unroll
                for (int k = 0; k < 3; ++k) {
                    at[k] = fixed.at(z[j], column.ray(row + j, k), k);
                    sure &= (at[k] & fixed.sure) != 0;
                    at[k] >>= fixed.fraction;
                    inside &= at[k] < (unsigned)table.grid[k];
                }
                const unsigned here = (at[0] * (unsigned)table.grid[1] + at[1]) *
                                      (unsigned)table.grid[2] + at[2];
                voxels[j] = inside & sure ? (int)here : -1;
                unsure |= (unsigned)(valid[j] & !sure) << j;
            }
            marks(voxels);
            while (unsure) {
                const int j = 31 - __clz((int)unsure);
                unsure ^= 1u << j;
                const float depth = widen<float>(__ldg(from + j * table.image_row));
                const float own = depth * (float)table.scale;
                const Position<float> position(table, image);  // again: to keep it takes registers
                const Lattice<float> exact(table, cloud);
                float p[3];
                int voxel[3];
#pragma unroll
                for (int k = 0; k < 3; ++k) p[k] = own * column.ray(row + j, k) + position.at[k];
                if (!exact.template locate<1>(p, voxel)) continue;
                const int here = exact.template linear<int>(voxel);
                const unsigned bit = 1u << (here & 31);
                if (!(marks.bits[here >> 5] & bit)) atomicOr(marks.bits + (here >> 5), bit);
            }
        };
    };
    if constexpr (PLAIN && sizeof(C) == sizeof(float)) each_pixels<D, 1>(table, mark_sure);
    else if (!PLAIN && table.along_ray) each_pixels<D, 0>(table, mark);
    else each_pixels<D, 1>(table, mark);
}

// Bits to elements of any type, `one` where a bit is set.
template <typename U>
__global__ void __launch_bounds__(256) expand_bits(const __grid_constant__ Cloud table) {
    constexpr int V = 16 / sizeof(U);
    const unsigned one = (unsigned)table.one;
    const int64 parts = table.chunks, stride = parts * blockDim.x;
    for (int64 block = blockIdx.x; block < table.clouds * parts; block += gridDim.x) {
        const int64 b = (unsigned)block / (unsigned)parts;
        const int64 thread = (block - b * parts) * blockDim.x + threadIdx.x;
        const unsigned* const bits = (const unsigned*)table.sorted + b * table.out_batch;
        U* const out = (U*)table.out + b * table.voxels;
        int64 head = -(int64)((uint64)out / sizeof(U)) & (V - 1);
        if (head > table.voxels) head = table.voxels;
        const int64 packs = (table.voxels - head) / V, edges = table.voxels - packs * V;
        for (int64 i = thread; i < packs; i += stride) {
            const int64 v = head + i * V;
            const int shift = (int)(v & 31);
            unsigned here = __ldg(bits + (v >> 5)) >> shift;
            if (shift > 32 - V) here |= __ldg(bits + (v >> 5) + 1) << (32 - shift);
            Pack<unsigned, 4> pack;
#pragma unroll
            for (int k = 0; k < 4; ++k) pack.at[k] = spread<U>(here >> k * (V / 4), one);
            store_pack((unsigned*)(out + v), pack);
        }
        for (int64 i = thread; i < edges; i += stride) {
            const int64 v = i < head ? i : i + packs * V;
            out[v] = bits[v >> 5] >> (v & 31) & 1 ? (U)one : (U)0;
        }
    }
}
