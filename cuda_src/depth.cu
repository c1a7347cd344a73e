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
            const int64 first = image % table.intrinsics_cycle * table.intrinsics_row;
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
                                       image % table.transforms_cycle * table.transforms_row + i);
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
                        : (C)load<double>(table.transforms, table.transforms_width,
                                          image % table.transforms_cycle * table.transforms_row +
                                              4 * k + 3);
    }
};

// Depth along the optical axis, or no number.
template <typename C>
__device__ __forceinline__ bool usable(C z, C near, C far) {
    return z > 0 && z > near && z <= far && z - z == 0;
}

template <typename D>
__global__ void __launch_bounds__(256) depth_points(const __grid_constant__ Cloud table) {
    typedef Coordinate<D> C;
    const int64 pixels = table.height * table.width, stride = (int64)gridDim.x * blockDim.x;
    const C scale = (C)table.scale, near = (C)table.near, far = (C)table.far;
    C* const out = (C*)table.out;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < table.images * pixels;
         i += stride) {
        const int64 image = i / pixels, pixel = i - image * pixels;
        const int64 v = pixel / table.width, u = pixel - v * table.width;
        const Rays<C> rays(table, image);
        const Position<C> position(table, image);
        const D d = ((const D*)table.points)[image * table.image + v * table.image_row +
                                             u * table.image_step];
        C z = widen<C>(d) * scale;
        if (table.along_ray)
            z = z / sqrt(rays.columns[3 * rays.width + u] + rays.rows[3 * rays.height + v]);
        const bool valid = usable(z, near, far);
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            const C ray = rays.columns[k * rays.width + u] + rays.rows[k * rays.height + v];
            out[3 * i + k] = valid ? z * ray + position.at[k] : not_a_number<C>();
        }
    }
}

// ------------------------------------------------------------------------- images to bits of voxels
//
//     ┌───────────── width ─────────────┐     A thread goes down 8 columns, whose rays it keeps in
//     │ ▓▓▓▓▓▓▓▓ │          │           │     registers, through a strip of rows. Neighbours mostly
//     │ ▓▓▓▓▓▓▓▓ │          │           │     see the same voxel, so few pixels get as far as the
//     └─────────────────────────────────┘     grid, and fewer find a bit that is not set.

constexpr int COLUMNS = 8, STRIP = 16;

template <typename D, int PLAIN>
__global__ void __launch_bounds__(256, PLAIN && sizeof(D) < 8 ? 3 : 1) mark_depth(const __grid_constant__ Cloud table) {
    typedef Coordinate<D> C;
    const int groups = (int)((table.width + COLUMNS - 1) / COLUMNS);
    const int strips = (int)((table.height + STRIP - 1) / STRIP);
    const int threads = (int)blockDim.x, phases = threads >= groups ? threads / groups : 1;
    const int phase = threads >= groups ? (int)threadIdx.x / groups : 0;
    const int height = (int)table.height, width = (int)table.width;
    const C scale = (C)table.scale, near = (C)table.near, far = (C)table.far;
    for (int64 block = blockIdx.x; block < table.images * strips; block += gridDim.x) {
        const int64 image = (unsigned)block / (unsigned)strips;
        const int top = (int)(block - image * strips) * STRIP;
        const int bottom = top + STRIP < height ? top + STRIP : height;
        const int64 cloud = image / table.views;
        const Rays<C> rays(table, image);
        const Position<C> position(table, image);
        const Lattice<C> lattice(table, cloud);
        unsigned* const bits = (unsigned*)table.sorted + cloud * table.out_batch;
        if (phase >= phases) continue;
        for (int g = (int)threadIdx.x - phase * groups; g < groups; g += threads) {
            const int left = g * COLUMNS;
            C column[3][COLUMNS];
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
                for (int k = 0; k < 3; ++k)
                    column[k][j] = left + j < width ? rays.columns[k * width + left + j] : (C)0;
            int64 last = -1;
            for (int v = top + phase; v < bottom; v += phases) {
                const D* const from = (const D*)table.points + image * table.image +
                                      (int64)v * table.image_row + left * table.image_step;
                C row[3];
#pragma unroll
                for (int k = 0; k < 3; ++k) row[k] = __ldg(rays.rows + k * height + v);
                Pack<D, COLUMNS> pixels;
                if (PLAIN) {
                    constexpr int V = 16 / sizeof(D) < COLUMNS ? 16 / sizeof(D) : COLUMNS;
#pragma unroll
                    for (int j = 0; j < COLUMNS; j += V) {
                        const Pack<D, V> some = load_pack<D, V>(from + j);
#pragma unroll
                        for (int k = 0; k < V; ++k) pixels.at[j + k] = some.at[k];
                    }
                } else {
#pragma unroll
                    for (int j = 0; j < COLUMNS; ++j)
                        if (left + j < width) pixels.at[j] = __ldg(from + j * table.image_step);
                }
#pragma unroll
                for (int j = 0; j < COLUMNS; ++j) {
                    if (!PLAIN && left + j >= width) break;
                    C z = widen<C>(pixels.at[j]) * scale;
                    if (table.along_ray)
                        z = z / sqrt(rays.columns[3 * width + left + j] + rays.rows[3 * height + v]);
                    if (!usable(z, near, far)) continue;
                    C p[3];
#pragma unroll
                    for (int k = 0; k < 3; ++k) p[k] = z * (column[k][j] + row[k]) + position.at[k];
                    int voxel[3];
                    if (!lattice.locate(p, voxel)) continue;
                    const int64 here = lattice.template linear<int64>(voxel);
                    if (here == last) continue;
                    last = here;
                    unsigned* const word = bits + (here >> 5);
                    const unsigned bit = 1u << (here & 31);
                    if (!(__ldcg(word) & bit)) atomicOr(word, bit);
                }
            }
        }
    }
}

// Bits to elements of any type, `one` where a bit is set.
template <typename U>
__global__ void __launch_bounds__(256) expand_bits(const __grid_constant__ Cloud table) {
    constexpr int V = 16 / sizeof(U);
    const unsigned one = (unsigned)table.one;
    const int64 stride = (int64)gridDim.x * blockDim.x;
    const int64 thread = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    for (int64 b = 0; b < table.clouds; ++b) {
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
