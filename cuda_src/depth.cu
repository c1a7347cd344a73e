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

// f(image, u) makes what is called with (v, points, valid) for AT_ONCE pixels of column u from row v
// on; valid[j] tells whether there is such a row, and a depth. ON_AXIS: depth is not along the ray.
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
        const Position<C> position(table, image);
        __syncthreads();
        for (int i = threadIdx.x; i < RAY * STRIP; i += blockDim.x) {
            const int v = top + i / RAY;
            rows[i / RAY].at[i % RAY] = v < height ? rays.rows[i % RAY * height + v] : (C)0;
        }
        __syncthreads();
        for (int u = left + (int)threadIdx.x; u < width && u < left + TILE; u += blockDim.x) {
            C column[RAY];
#pragma unroll
            for (int k = 0; k < RAY; ++k) column[k] = __ldg(rays.columns + k * width + u);
            const D* from = (const D*)table.points + image * table.image + top * table.image_row +
                            (int64)u * table.image_step;
            const int64 step = table.image_row;
            auto see = f(image, u);
#pragma unroll 1
            for (int v = 0; v < STRIP && top + v < height; v += AT_ONCE) {
                const int rest = height - top - v;
                Pack<D, AT_ONCE> depth;
                memset(&depth, 0, sizeof(depth));  // where there is no row: no depth
                C points[AT_ONCE][3];
                bool valid[AT_ONCE];
                if (rest >= AT_ONCE) {
#pragma unroll
                    for (int j = 0; j < AT_ONCE; ++j) depth.at[j] = __ldg(from + j * step);
                } else {
#pragma unroll
                    for (int j = 0; j < AT_ONCE; ++j)
                        if (j < rest) depth.at[j] = __ldg(from + j * step);
                }
                from += AT_ONCE * step;
#pragma unroll
                for (int j = 0; j < AT_ONCE; ++j) {
                    const Pack<C, RAY> row = rows[v + j];
                    C z = widen<C>(depth.at[j]) * scale;
                    if (!ON_AXIS) z = z / sqrt(column[3] + row.at[3]);
                    valid[j] = (z > near) & (z <= far);
#pragma unroll
                    for (int k = 0; k < 3; ++k)
                        points[j][k] = z * (column[k] + row.at[k]) + position.at[k];
                }
                see(top + v, points, valid);
            }
        }
    }
}

template <typename D>
__global__ void __launch_bounds__(128, sizeof(D) == 8 ? 2 : 4)
    depth_points(const __grid_constant__ Cloud table) {
    typedef Coordinate<D> C;
    const int64 width = table.width, height = table.height;
    const auto put = [&](int64 image, int u) {
        C* const column = (C*)table.out + (image * height * width + u) * 3;
        return [=](int v, const C points[AT_ONCE][3], const bool* valid) {
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                if (v + j >= height) break;
                C* const p = column + (v + j) * width * 3;
#pragma unroll
                for (int k = 0; k < 3; ++k) p[k] = valid[j] ? points[j][k] : not_a_number<C>();
            }
        };
    };
    if (table.along_ray) each_pixels<D, 0>(table, put);
    else each_pixels<D, 1>(table, put);
}

// ------------------------------------------------------------------------- images to bits of voxels

// PLAIN: depth on the axis, pixels outside dropped, and voxels numbered by 32 bits.
template <typename D, int PLAIN>
__global__ void __launch_bounds__(128, sizeof(D) == 8 ? 2 : 4)
    mark_depth(const __grid_constant__ Cloud table) {
    typedef Coordinate<D> C;
    typedef typename PickIndex<PLAIN>::type Index;
    const auto mark = [&](int64 image, int) {
        const int64 cloud = (unsigned)image / (unsigned)table.views;
        const Lattice<C> lattice(table, cloud);
        unsigned* const bits = (unsigned*)table.sorted + cloud * table.out_batch;
        Index last = -1;
        return [=](int, const C points[AT_ONCE][3], const bool* valid) mutable {
            Index voxels[AT_ONCE];
            unsigned words[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                int voxel[3];
                // No branches: pixels would wait for each other.
                const bool inside = lattice.template locate<PLAIN>(points[j], voxel) & valid[j];
                const Index here = lattice.template linear<Index>(voxel);
                voxels[j] = inside ? here : (Index)-1;
            }
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
        };
    };
    if (!PLAIN && table.along_ray) each_pixels<D, 0>(table, mark);
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
