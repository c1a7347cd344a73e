// Depth images to points and to voxels. What each kernel computes is defined by the function of the
// same name in robocache_cupy/_cpu/depth.py; the struct's fields are those of _core/table.py.

#include "cloud.cuh"

// A pixel (u, v) of depth z is seen along the ray R * ((u - cx) / fx, (v - cy) / fy, 1): the sum of
// a part of its column and one of its row. Both are made once for each camera, so that a pixel
// takes one addition, one multiplication and one addition for each coordinate.
//
//     rays of an image:  [3, width] of columns, [3, height] of rows, and where depth is measured
//                        along the ray, the squares that its length is made of, [width], [height]
//
// Behind the rays of all images lies what else their pixels share: a View of each.

constexpr int RAY = 4;    // rows of the table, for columns and for rows
constexpr int VIEW = 34;  // the room of a View, in elements of the table

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

// The whole part of a number below 2^23, and the bits of 2^23.
__device__ __forceinline__ unsigned whole_bits(float x) {
    return __float_as_uint(__fadd_rd(x, 8388608.0f));
}

// Where pixels lie on a lattice: the distance from its corner by one fused multiply-add for each
// axis, and by another the cell, in fixed point:
//
//     w = depth * ray + (position - corner)        cell = w / size + 2^(23 - fraction)
//
// is a float whose last bits are the cell and `fraction` bits of what is beyond its lower edge. A
// pixel is sure to lie in that cell, or outside, unless it is nearer to an edge than the errors. Few
// are not sure, and are located exactly.
//
// The errors, in cells: u = 2^-24 is the rounding of a float, h = 2^-fraction, e a pixel's distance
// from the corner, o = |corner| / size, d = |position - corner| / size. An exact location rounds the
// product of depth and ray, which is at most e + d, its sum with the position, at most e + o, the
// distance of that from the corner, e, and its quotient, e. Fixed point rounds the constant, d, the
// distance, e, the reciprocal of the size, e, and the sum, to a unit h. So
//     an exact location is off by  u ((e + d) + (e + o) + e + e) = u (4 e + d + o),
//     the fixed point by           u (d + e + e) + h             = u (2 e + d) + h.
//
// On the lattice and beside its edges, where e is less than its cells and one, that is together less
// than a `margin`, which is added to the cell. Then an exact location of a pixel that has two margins
// or more beyond an edge gives the same cell, and whoever has fewer is not sure. A pixel whose
// distance is outside, but which an exact location might find inside, is never sure: below the
// corner it is behind by less than the margin that was added, and has fewer than two; at the other
// end it has fewer than two, or half as many where a unit is twice as long, from 2^(24 - fraction)
// on. Of any other pixel outside it does not matter whether it is sure.
struct FixedPoint {
    float from[3], reciprocal[3], middle;
    unsigned extent[3];       // bits of floats, as of `within`
    unsigned sure;            // the bits of a cell of which one is set in a pixel that is
    unsigned first;           // the number of voxel 0, as `number` makes it

    FixedPoint() = default;
    __device__ __forceinline__ FixedPoint(const Lattice<float>& lattice, const float position[3]) {
        float most = 1, error = 0;
        bool known = true;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            const float cells = (float)lattice.grid[k];
            reciprocal[k] = lattice.reciprocal[k];
            from[k] = position[k] - lattice.origin[k];
            extent[k] = __float_as_uint(cells * lattice.size[k]);
            const float d = fabsf(from[k]) * reciprocal[k];
            const float o = fabsf(lattice.origin[k]) * reciprocal[k];
            most = max(most, cells);
            const float off = 6 * (cells + 1) + 2 * d + o;
            known &= off < 1e9f;  // of NaN: not
            error = max(error, off);
        }
        // A power of two that is no less than the cells of any axis.
        const unsigned power = (__float_as_uint(most) + 0x7fffffu) >> 23;
        const int fraction = 23 + 127 - (int)power;
        // In units, and a tenth more for what is rounded here and errors of errors.
        const float units = 1.1f + 1.1f * error * (float)(1u << fraction) / 16777216.0f;
        const unsigned whole = 1u << fraction;
        known &= units < (float)(whole / 4);
        const unsigned margin = known ? 1u << ((__float_as_uint(units) >> 23) - 126) : 0;
        sure = known ? whole - 2 * margin : 0;
        const unsigned start = power << 23;
        middle = __uint_as_float(start + margin);
        first = 0;
#pragma unroll
        for (int k = 0; k < 3; ++k)
            first = first * (unsigned)lattice.grid[k] + whole_bits(__uint_as_float(start));
    }
};

// Which depths are depths.
template <typename C> struct Limits {
    C near, far;

    __device__ __forceinline__ Limits(C near, C far) : near(near), far(far) {}
    __device__ __forceinline__ bool contain(C z) const { return z > near && z <= far; }
};

// By bits: positive floats have their order, and negative ones and NaN come after all of them.
template <> struct Limits<float> {
    unsigned first, span;

    __device__ __forceinline__ Limits(float near, float far)
        : first(__float_as_uint(near + 0.0f) + 1),  // of -0, too
          span(far > near ? __float_as_uint(far) + 1 - first : 0) {}
    __device__ __forceinline__ bool contain(float z) const {
        return __float_as_uint(z) - first < span;
    }
};

// What the pixels of an image share. It lies in memory, so that no thread converts it from doubles.
template <typename C> struct View {
    C position[3], scale;
    Limits<C> limits;
    unsigned* bits;  // of the voxels of its cloud
    Lattice<C> lattice;
    FixedPoint fixed;

    __device__ __forceinline__ View(const Cloud& table, int64 image, const Camera& camera)
        : scale((C)table.scale), limits((C)table.near, (C)table.far), bits(nullptr),
          lattice(table, table.views ? cloud_of(table, image) : 0) {
        static_assert(sizeof(View) <= VIEW * sizeof(C), "does not fit into its room");
#pragma unroll
        for (int k = 0; k < 3; ++k) position[k] = (C)camera.at[4 * k + 3];
        if (table.views) bits = (unsigned*)table.sorted + cloud_of(table, image) * table.out_batch;
        if constexpr (sizeof(C) == sizeof(float)) fixed = FixedPoint(lattice, position);
    }

    static __device__ __forceinline__ int64 cloud_of(const Cloud& table, int64 image) {
        return (unsigned)image / (unsigned)table.views;
    }
};

template <typename C>
__device__ __forceinline__ View<C>* views_of(const Cloud& table) {
    C* const rays = (C*)table.rays;
    return (View<C>*)(rays + table.images * RAY * (table.width + table.height));
}

// Blocks on a processor at once: as many as registers allow without spilling.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int CAMERA_BLOCKS = 3;
#else
constexpr int CAMERA_BLOCKS = 4;
#endif

// Makes the views, and clears the bits of all voxels, too: `words` of them.
template <typename C>
__global__ void __launch_bounds__(256, CAMERA_BLOCKS)
    camera_rays(const __grid_constant__ Cloud table) {
    wait_for_stream();
    const int64 stride = (int64)gridDim.x * blockDim.x;
    const int64 thread = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned* const bits = (unsigned*)table.sorted;
    for (int64 i = thread; i < table.words; i += stride) bits[i] = 0;
    const int64 width = table.width, each = width + table.height;
    // By the last threads, which have the least to do.
    for (int64 image = stride - 1 - thread; image < table.images; image += stride)
        views_of<C>(table)[image] = View<C>(table, image, Camera(table, image));
    for (int64 i = thread; i < table.images * each; i += stride) {
        const int64 image = quotient(i, each), at = i - image * each;
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

// A copy, for stores might change what lies in memory.
template <typename C> struct Position {
    C position[3];

    __device__ __forceinline__ Position(const View<C>& view) {
#pragma unroll
        for (int k = 0; k < 3; ++k) position[k] = view.position[k];
    }
};

//     ┌──────────── width ────────────┐     A thread goes down a column, whose ray it keeps, through
//     │ ║║║║║║║║ │         │          │     the rows of a tile; their rays lie in shared memory.
//     │ ▼▼▼▼▼▼▼▼ │         │          │     Neighbours of a warp are neighbours in the image, and
//     └───────────────────────────────┘     mostly see the same voxel.
//
// A thread computes with a group of depths at once, for which registers suffice, while those of the
// next are under way: memory takes as long to answer as a group takes to compute.
constexpr int TILE = 128, STRIP = 32;  // columns and rows of a tile
constexpr int GROUP = 4;

// A column of a tile: its part of the rays, and the parts of the rows from one of the tile on.
template <typename C> struct Column {
    C at[RAY];
    const Pack<C, RAY>* rows;

    __device__ __forceinline__ C ray(int row, int k) const { return at[k] + rows[row].at[k]; }

    // What the pixel in a row shows, at depth z.
    __device__ __forceinline__ void point(C z, int row, const C position[3], C p[3]) const {
#pragma unroll
        for (int k = 0; k < 3; ++k) p[k] = z * ray(row, k) + position[k];
    }
};

// A tile of an image, and its rays.
template <typename C> struct Tile {
    unsigned image;
    int top, left, count;  // of its rows
    const Pack<C, RAY>* rows;
};

// The next group of depths of a column that has `rest` rows left.
template <typename D>
__device__ __forceinline__ Pack<D, GROUP> load_depths(const D*& from, int64 step, int rest) {
    Pack<D, GROUP> depth;
    memset(&depth, 0, sizeof(depth));  // where there is no row: no depth
    if (rest >= GROUP) {
#pragma unroll
        for (int j = 0; j < GROUP; ++j, from += step) depth.at[j] = __ldg(from);
    } else {
#pragma unroll
        for (int j = 0; j < GROUP; ++j, from += step)
            if (j < rest) depth.at[j] = __ldg(from);
    }
    return depth;
}

struct Nothing {
    template <typename V, typename T>
    __device__ __forceinline__ void operator()(const V&, const T&) const {}
};

// f(view, tile, u, column) makes what is called with (rest, z) for a GROUP of pixels of a column
// after the other: the rows that are left, from the first of these pixels on, as the rows of the
// column are then, and their depths along the axis, NaN where there is none. Its finish() comes after
// a column, end(view, tile) after all columns of a tile. ON_AXIS: depths were measured along the axis,
// too.
template <typename D, int ON_AXIS, typename F, typename E = Nothing>
__device__ __forceinline__ void each_pixels(const Cloud& table, const F& f, const E& end = E()) {
    typedef Coordinate<D> C;
    __shared__ Pack<C, RAY> rows[STRIP];
    const int width = (int)table.width, height = (int)table.height;
    const unsigned across = (unsigned)(width + TILE - 1) / TILE;
    const unsigned down = (unsigned)(height + STRIP - 1) / STRIP;
    const int64 step = table.image_row;
    for (int64 block = blockIdx.x; block < table.images * (across * down); block += gridDim.x) {
        const unsigned line = (unsigned)block / across, image = line / down;
        const int top = (int)((line - image * down) * STRIP), count = min(STRIP, height - top);
        const int left = (int)(((unsigned)block - line * across) * TILE);
        const int right = min(width, left + TILE);
        const Tile<C> tile{image, top, left, count, rows};
        const D* const corner =
            (const D*)table.points + image * table.image + top * table.image_row;
        const Rays<C> rays(table, image);
        const View<C>& view = views_of<C>(table)[image];
        const C scale = view.scale;
        const Limits<C> limits = view.limits;
        for (int first = left; first < right; first += (int)blockDim.x) {
            const int u = min(first + (int)threadIdx.x, right - 1);
            const D* from = corner + (int64)u * table.image_step;
            Pack<D, GROUP> depth = load_depths(from, step, count);
            Column<C> column{{}, rows};
#pragma unroll
            for (int k = 0; k < RAY; ++k) column.at[k] = __ldg(rays.columns + k * width + u);
            auto see = f(view, tile, u, column);
            if (first == left) {  // not before: the depths and the column are under way by now
                __syncthreads();
                for (unsigned i = threadIdx.x; i < RAY * STRIP; i += blockDim.x) {
                    const int v = (int)(i / RAY), k = (int)(i % RAY);
                    rows[v].at[k] = v < count ? rays.rows[k * height + top + v] : (C)0;
                }
                __syncthreads();
            }
            if (first + (int)threadIdx.x >= right) break;
#pragma unroll 1
            for (int rest = count; rest > 0; rest -= GROUP) {
                C z[GROUP];
#pragma unroll
                for (int j = 0; j < GROUP; ++j) z[j] = widen<C>(depth.at[j]) * scale;
#ifdef __CUDA_ARCH__
                // Before the next ones are under way: they would need other registers, and copies.
                if constexpr (sizeof(C) == 4) {
#pragma unroll
                    for (int j = 0; j < GROUP; ++j) asm volatile("" : "+f"(z[j]));
                }
#endif
                depth = load_depths(from, step, rest - GROUP);
#pragma unroll
                for (int j = 0; j < GROUP; ++j) {
                    if (!ON_AXIS) z[j] = z[j] / sqrt(column.at[3] + column.rows[j].at[3]);
                    z[j] = limits.contain(z[j]) ? z[j] : not_a_number<C>();
                }
                see(rest, z);
                column.rows += GROUP;
            }
            see.finish();
        }
        end(view, tile);
    }
}

// Stores the points of a column.
template <typename C> struct Points {
    C* out;
    int64 step;
    const Position<C> at;
    const Column<C>& column;

    __device__ __forceinline__ void operator()(int rest, const C z[GROUP]) {
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
            if (j >= rest) break;
            C* const p = out + j * step;
            C point[3];
            column.point(z[j], j, at.position, point);
#pragma unroll
            for (int k = 0; k < 3; ++k) p[k] = z[j] == z[j] ? point[k] : not_a_number<C>();
        }
        out += GROUP * step;
    }
    __device__ __forceinline__ void finish() {}
};

template <typename D>
__global__ void __launch_bounds__(128, sizeof(D) == 8 ? 2 : 4)
    depth_points(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef Coordinate<D> C;
    const int64 width = table.width, height = table.height;
    const auto put = [&](const View<C>& view, const Tile<C>& tile, int u, const Column<C>& column) {
        C* const out = (C*)table.out + ((tile.image * height + tile.top) * width + u) * 3;
        return Points<C>{out, width * 3, Position<C>(view), column};
    };
    if (table.along_ray) each_pixels<D, 0>(table, put);
    else each_pixels<D, 1>(table, put);
}

// ------------------------------------------------------------------------- images to bits of voxels

// Sets the bits of voxels that a column sees one after another.
template <typename I> struct Marks {
    unsigned* const bits;
    I last;  // -1 before there is one

    __device__ __forceinline__ Marks(unsigned* bits) : bits(bits), last(-1) {}

    // `marked`: whether a pixel shows a voxel, which only then has a number.
    __device__ __forceinline__ void operator()(const I numbers[GROUP], const bool marked[GROUP]) {
        __builtin_assume(__isGlobal(bits));
        I voxels[GROUP];
        unsigned words[GROUP], missing[GROUP], any = 0;
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
            voxels[j] = marked[j] ? numbers[j] : last;
            words[j] = ~0u;
            // What the cache holds may be old, which costs no more than an atomic.
            if (voxels[j] != last) words[j] = bits[word(voxels[j])];
            last = voxels[j];
        }
#pragma unroll
        for (int j = 0; j < GROUP; ++j) any |= missing[j] = ~words[j] & bit(voxels[j]);
        if (!any) return;  // mostly
#pragma unroll
        for (int j = 0; j < GROUP; ++j)
            if (missing[j]) atomicOr(bits + word(voxels[j]), missing[j]);
    }

    static __device__ __forceinline__ void mark(unsigned* bits, I voxel) {
        __builtin_assume(__isGlobal(bits));
        if (!(bits[word(voxel)] & bit(voxel))) atomicOr(bits + word(voxel), bit(voxel));
    }

    static __device__ __forceinline__ typename Unsigned<I>::type word(I voxel) {
        return (typename Unsigned<I>::type)voxel >> 5;
    }
    static __device__ __forceinline__ unsigned bit(I voxel) { return 1u << (voxel & 31); }
};

// The pixels of a tile that are not sure, to be located by all threads: each waits for memory, and
// a column or a row along an edge between voxels is full of them.
struct Unsure {
    static constexpr int MOST = 512;
    int count;                    // may be beyond: then all pixels of the tile are located
    unsigned short pixels[MOST];  // row * TILE + column

    // Rows of a column, a bit for each, that of row `last` last.
    __device__ __forceinline__ void put(unsigned rows, int last, int column) {
        if (!rows) return;
        int place = atomicAdd(&count, __popc(rows));
        for (; rows && place < MOST; ++place) {
            const int bit = 31 - __clz((int)rows);
            rows ^= 1u << bit;
            pixels[place] = (unsigned short)((last - bit) * TILE + column);
        }
    }

    template <typename D>
    __device__ __forceinline__ void locate(const Cloud& table, const Tile<float>& tile,
                                           const View<float>& view) {
        __syncthreads();
        const int width = (int)table.width, known = count;
        const int pixels_here = known > MOST ? STRIP * TILE : known;
        const Rays<float> rays(table, tile.image);
        const D* const from = (const D*)table.points + tile.image * table.image;
        for (int i = (int)threadIdx.x; i < pixels_here; i += blockDim.x) {
            const int pixel = known > MOST ? i : pixels[i];
            const int row = pixel / TILE, v = tile.top + row, u = tile.left + pixel % TILE;
            if (u >= width || row >= tile.count) continue;
            const float z =
                widen<float>(__ldg(from + v * table.image_row + u * table.image_step)) * view.scale;
            float p[3];
            int voxel[3];
#pragma unroll
            for (int k = 0; k < 3; ++k)
                p[k] = z * (__ldg(rays.columns + k * width + u) + tile.rows[row].at[k]) +
                       view.position[k];
            // What is no depth may be here, too: not every NaN is sure.
            if (!view.limits.contain(z)) continue;
            if (view.lattice.template locate<1>(p, voxel))
                Marks<int>::mark(view.bits, view.lattice.template linear<int>(voxel));
        }
        __syncthreads();
        if (threadIdx.x == 0) count = 0;  // for the next tile
    }
};

// Of pixels that are located exactly.
template <typename C, typename I, int PLAIN> struct ExactMarks {
    const Lattice<C> lattice;
    const Position<C> at;
    const Column<C>& column;
    Marks<I> marks;

    __device__ __forceinline__ void operator()(int, const C z[GROUP]) {
        I numbers[GROUP];
        bool marked[GROUP];
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
            C p[3];
            int voxel[3];
            column.point(z[j], j, at.position, p);
            // No branches: pixels would wait for each other.
            marked[j] = lattice.template locate<PLAIN>(p, voxel);
            numbers[j] = lattice.template linear<I>(voxel);
        }
        marks(numbers, marked);
    }
    __device__ __forceinline__ void finish() {}
};

// Of pixels that are sure in fixed point.
template <typename D> struct SureMarks {
    const Cloud& table;
    const Tile<float>& tile;
    const Column<float>& column;
    Unsure& unsure;
    const FixedPoint fixed;
    Marks<int> marks;
    int u;
    unsigned doubtful;  // a bit for each row of the tile so far, the last one's last

    __device__ __forceinline__ SureMarks(const Cloud& table, const View<float>& view,
                                         const Tile<float>& tile, int u,
                                         const Column<float>& column, Unsure& unsure)
        : table(table), tile(tile), column(column), unsure(unsure), fixed(view.fixed),
          marks(view.bits), u(u), doubtful(0) {
        static_assert(STRIP <= 32, "a bit for each row");
    }

    __device__ __forceinline__ void operator()(int, const float z[GROUP]) {
        int numbers[GROUP];
        bool marked[GROUP];
        unsigned doubts = 0;
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
            unsigned number = 0, distance[3];
            bool sure = true;
#pragma unroll
            for (int k = 0; k < 3; ++k) {
                const float w = fma(z[j], column.ray(j, k), fixed.from[k]);
                const float cell = fma(w, fixed.reciprocal[k], fixed.middle);
                distance[k] = __float_as_uint(w);
                sure &= (__float_as_uint(cell) & fixed.sure) != 0;
                number = number * (unsigned)table.grid[k] + whole_bits(cell);
            }
            numbers[j] = (int)(number - fixed.first);
            marked[j] = sure;
#pragma unroll
            for (int k = 0; k < 3; ++k) marked[j] &= distance[k] < fixed.extent[k];
            if (!sure) doubts |= 1u << (GROUP - 1 - j);
        }
        marks(numbers, marked);
        doubtful = doubtful << GROUP | doubts;
    }

    __device__ __forceinline__ void finish() {
        unsure.put(doubtful, (tile.count + GROUP - 1) / GROUP * GROUP - 1, u - tile.left);
    }
};

// Blocks on a processor at once: as many as registers allow without spilling.
constexpr int PLAIN_MARKS = 8;

// PLAIN: depth on the axis, pixels outside dropped, and voxels numbered by 32 bits.
template <typename D, int PLAIN>
__global__ void __launch_bounds__(128, sizeof(D) == 8 ? 2 : PLAIN ? PLAIN_MARKS : 4)
    mark_depth(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef Coordinate<D> C;
    typedef typename PickIndex<PLAIN>::type Index;
    const auto mark = [&](const View<C>& view, const Tile<C>&, int, const Column<C>& column) {
        return ExactMarks<C, Index, PLAIN>{view.lattice, Position<C>(view), column,
                                           Marks<Index>(view.bits)};
    };
    if constexpr (PLAIN && sizeof(C) == sizeof(float)) {
        __shared__ Unsure unsure;
        if (threadIdx.x == 0) unsure.count = 0;
        const auto mark_sure = [&](const View<C>& view, const Tile<C>& tile, int u,
                                   const Column<C>& column) {
            return SureMarks<D>(table, view, tile, u, column, unsure);
        };
        const auto locate = [&](const View<C>& view, const Tile<C>& tile) {
            unsure.template locate<D>(table, tile, view);
        };
        each_pixels<D, 1>(table, mark_sure, locate);
    } else if (!PLAIN && table.along_ray) each_pixels<D, 0>(table, mark);
    else each_pixels<D, 1>(table, mark);
}

// Bits to elements of any type, `one` where a bit is set.
template <typename U>
__global__ void __launch_bounds__(256) expand_bits(const __grid_constant__ Cloud table) {
    wait_for_stream();
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
