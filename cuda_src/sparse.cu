// Point clouds to the voxels that hold any points. What each kernel computes is defined by the
// function of the same name in robocache_cupy/_cpu/sparse.py; the structs' fields are those of
// _core/table.py.
//
//   1. point_keys      the key of every point: its voxel, in the order of the rows
//   2. scan_bins       and scatter_points, a pass for every digit of the keys: a stable sort of
//                      each cloud's points, from which the first pass leaves out those in no voxel
//   3. count_heads     scan_bins, rank_heads: a head is the first point of a voxel
//   4. lay_out, emit   where each cloud's rows begin, and the rows
//   5. reductions of features, by row
//
// Every launch is one phase, and what a block does does not depend on the others, so the result
// is the same in every run.

#include "cloud.cuh"
#include "fixed.cuh"
#include "ordered.cuh"
#include "sparse.table"

constexpr int THREADS = 256;
constexpr int MOST_DIGITS = 256;
constexpr int HALF_SPAN = 1 << 20;  // voxels of an unbounded lattice, to each side of its origin

// The sum of x over the threads before this one; `all` is that over all threads.
__device__ __forceinline__ int sum_before(int x, int& all) {
    __shared__ int sums[2][THREADS];
    const int t = threadIdx.x, threads = blockDim.x;
    int from = 0;
    sums[0][t] = x;
    __syncthreads();
    for (int step = 1; step < threads; step *= 2, from ^= 1) {
        sums[from ^ 1][t] = sums[from][t] + (t >= step ? sums[from][t - step] : 0);
        __syncthreads();
    }
    const int with = sums[from][t];
    all = sums[from][threads - 1];
    __syncthreads();
    return with - x;
}

// Some consecutive ones of n for each thread.
struct Share {
    int begin, end;

    __device__ __forceinline__ Share(int n) {
        const int each = (n + blockDim.x - 1) / blockDim.x, t = threadIdx.x;
        begin = (int64)t * each < n ? t * each : n;
        end = n - begin < each ? n : begin + each;
    }
};

template <typename T> __device__ __forceinline__ T* array(const void* p, int64 offset = 0) {
    return (T*)p + offset;
}

// ------------------------------------------------------------------------------------------- sort

// BOUNDED: the voxel's number in the grid; else 21 bits for each axis. The first digit is counted.
template <typename P, typename K, int BOUNDED>
__global__ void __launch_bounds__(THREADS, 3) point_keys(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef Coordinate<P> C;
    __shared__ int counts[MOST_DIGITS];
    const int digits = 1 << table.bits;
    for (int64 block = blockIdx.x; block < table.clouds * table.chunks; block += gridDim.x) {
        const int64 b = block / table.chunks, c = block - b * table.chunks;
        const int64 begin = c * table.chunk, count = count_of(table, b);
        const int64 end = begin + table.chunk < table.most ? begin + table.chunk : table.most;
        for (int d = threadIdx.x; d < digits; d += blockDim.x) counts[d] = 0;
        __syncthreads();
        const Lattice<C> lattice(table, b);
        const Transform<C> transform(table, b);
        for (int64 n = begin + threadIdx.x; n < end; n += blockDim.x) {
            const int64 i = b * table.most + n;
            K key = ~(K)0;
            if (n < count && !masked(table, b, n)) {
                C p[3];
                load_point<P>(table, b, n, p);
                if (table.moving) transform.apply(p);
                if (table.moved != nullptr) {
                    C* const moved = array<C>(table.moved, 3 * i);
#pragma unroll
                    for (int k = 0; k < 3; ++k) moved[k] = p[k];
                }
                if (BOUNDED) {
                    int voxel[3];
                    if (lattice.locate(p, voxel)) key = (K)lattice.template linear<int64>(voxel);
                } else {
                    bool inside = true;
                    uint64 packed = 0;
#pragma unroll
                    for (int k = 0; k < 3; ++k) {
                        const C q = lattice.quotient(p[k] - lattice.origin[k], k);
                        inside &= q >= (C)(1 - HALF_SPAN) && q < (C)HALF_SPAN;
                        packed = packed << 21 | (uint64)(inside ? (int)floor(q) + HALF_SPAN : 0);
                    }
                    if (inside) key = (K)packed;
                }
            }
            array<K>(table.sorted)[i] = key;
            if (table.out != nullptr) array<int>(table.out)[i] = -1;
            if (key != ~(K)0) atomicAdd(counts + (int)(key & (K)(digits - 1)), 1);
        }
        __syncthreads();
        for (int d = threadIdx.x; d < digits; d += blockDim.x)
            array<int>(table.bins)[(b * digits + d) * table.chunks + c] = counts[d];
        __syncthreads();
    }
}

// How many points of cloud b a pass has before it.
__device__ __forceinline__ int64 points_of(const Sparse& table, int64 b) {
    return table.all_points ? table.most : array<const int>(table.kept)[b];
}

#define EACH_CHUNK                                                                             \
    for (int64 block = blockIdx.x; block < table.clouds * table.chunks; block += gridDim.x)    \
        if (const int64 b = block / table.chunks, c = block - b * table.chunks,                \
            begin = c * table.chunk, rest = points_of(table, b) - begin;                       \
            rest > 0)

template <typename K>
__global__ void __launch_bounds__(THREADS, 4) count_digits(const __grid_constant__ Sparse table) {
    wait_for_stream();
    __shared__ int counts[MOST_DIGITS];
    const int digits = (int)table.digits, shift = (int)table.shift;
    for (int64 block = blockIdx.x; block < table.clouds * table.chunks; block += gridDim.x) {
        const int64 b = block / table.chunks, c = block - b * table.chunks;
        const int64 begin = c * table.chunk, rest = points_of(table, b) - begin;
        const int n = rest < 0 ? 0 : (int)(rest < table.chunk ? rest : table.chunk);
        for (int d = threadIdx.x; d < digits; d += blockDim.x) counts[d] = 0;
        __syncthreads();
        const K* const keys = array<const K>(table.keys, b * table.most + begin);
        for (int i = threadIdx.x; i < n; i += blockDim.x)
            atomicAdd(counts + (int)(keys[i] >> shift & (K)(digits - 1)), 1);
        __syncthreads();
        for (int d = threadIdx.x; d < digits; d += blockDim.x)
            array<int>(table.bins)[(b * digits + d) * table.chunks + c] = counts[d];
        __syncthreads();
    }
}

// What the chunks of a cloud have of a digit, to what the chunks before have of it; and its total.
__global__ void __launch_bounds__(THREADS, 4) scan_bins(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int chunks = (int)table.chunks;
    const Share share(chunks);
    for (int64 block = blockIdx.x; block < table.clouds * table.digits; block += gridDim.x) {
        int* const bins = array<int>(table.bins, block * chunks);
        int sum = 0, all;
        for (int i = share.begin; i < share.end; ++i) sum += bins[i];
        int before = sum_before(sum, all);
        for (int i = share.begin; i < share.end; ++i) {
            const int here = bins[i];
            bins[i] = before;
            before += here;
        }
        if (threadIdx.x == 0) array<int>(table.totals)[block] = all;
    }
}

// Points are taken 256 at a time, in order. Of each 32 a word tells which have a digit, so those
// before a point with the same digit are counted, and equal keys keep their order.
template <typename K>
__global__ void __launch_bounds__(THREADS, 4) scatter_points(const __grid_constant__ Sparse table) {
    wait_for_stream();
    constexpr int AT_ONCE = 256, GROUPS = AT_ONCE / 32;
    __shared__ unsigned masks[GROUPS][MOST_DIGITS];
    __shared__ int cursor[MOST_DIGITS];
    const int digits = (int)table.digits, shift = (int)table.shift;
    const Share share(digits);
    EACH_CHUNK {
        const int n = (int)(rest < table.chunk ? rest : table.chunk);
        const int64 cloud = b * table.most;
        const int* const totals = array<const int>(table.totals, b * digits);
        int sum = 0, all;
        for (int d = share.begin; d < share.end; ++d) sum += totals[d];
        int before = sum_before(sum, all);
        for (int d = share.begin; d < share.end; ++d) {
            cursor[d] = before + array<const int>(table.bins)[(b * digits + d) * table.chunks + c];
            before += totals[d];
        }
        if (table.all_points && c == 0 && threadIdx.x == 0) array<int>(table.kept)[b] = all;
        for (int i = threadIdx.x; i < GROUPS * digits; i += blockDim.x)
            masks[i / digits][i % digits] = 0;
        __syncthreads();
        const K* const keys = array<const K>(table.keys, cloud + begin);
        for (int first = 0; first < n; first += AT_ONCE) {
            const int here = n - first < AT_ONCE ? n - first : AT_ONCE;
            for (int i = threadIdx.x; i < here; i += blockDim.x) {
                const K key = keys[first + i];
                if (key == ~(K)0) continue;
                const int d = (int)(key >> shift & (K)(digits - 1));
                atomicOr(&masks[i >> 5][d], 1u << (i & 31));
            }
            __syncthreads();
            for (int i = threadIdx.x; i < here; i += blockDim.x) {
                const K key = keys[first + i];
                if (key == ~(K)0) continue;
                const int d = (int)(key >> shift & (K)(digits - 1)), group = i >> 5;
                int place = cursor[d] + __popc(masks[group][d] & ((1u << (i & 31)) - 1));
                for (int g = 0; g < group; ++g) place += __popc(masks[g][d]);
                array<K>(table.next_keys)[cloud + place] = key;
                array<int>(table.next_ids)[cloud + place] =
                    table.all_points ? (int)(begin + first + i)
                                     : array<const int>(table.ids)[cloud + begin + first + i];
            }
            __syncthreads();
            for (int d = threadIdx.x; d < digits; d += blockDim.x) {
                int added = 0;
#pragma unroll
                for (int g = 0; g < GROUPS; ++g) {
                    added += __popc(masks[g][d]);
                    masks[g][d] = 0;
                }
                cursor[d] += added;
            }
            __syncthreads();
        }
    }
}

// ------------------------------------------------------------------------------------------ heads

// Whether place j of a cloud is the first of a voxel with enough points.
template <typename K>
__device__ __forceinline__ bool begins_voxel(const Sparse& table, const K* keys, int64 j,
                                             int64 count) {
    const K key = keys[j];
    const int64 last = j + table.min_points - 1;
    return (j == 0 || keys[j - 1] != key) && last < count && keys[last] == key;
}

// Heads among the points as they are sorted, or in the order of the cloud (by_point), where
// `inverse` tells them.
template <typename K>
__device__ __forceinline__ bool is_head(const Sparse& table, int64 b, int64 j, int64 count) {
    const int64 cloud = b * table.most;
    if (table.by_point) return array<const int>(table.inverse)[cloud + j] >= 0;
    return begins_voxel(table, array<const K>(table.keys, cloud), j, count);
}

template <typename K>
__global__ void __launch_bounds__(THREADS, 4) count_heads(const __grid_constant__ Sparse table) {
    wait_for_stream();
    for (int64 block = blockIdx.x; block < table.clouds * table.chunks; block += gridDim.x) {
        const int64 b = block / table.chunks, c = block - b * table.chunks;
        const int64 count = points_of(table, b), begin = c * table.chunk, rest = count - begin;
        const int n = rest < 0 ? 0 : (int)(rest < table.chunk ? rest : table.chunk);
        int sum = 0, all;
        for (int i = threadIdx.x; i < n; i += blockDim.x)
            sum += is_head<K>(table, b, begin + i, count);
        sum_before(sum, all);
        if (threadIdx.x == 0) array<int>(table.bins)[block] = all;
    }
}

// The number of each voxel among those of its cloud: `segments` has it for each sorted point, and
// by_point `ranks` for each head.
template <typename K>
__global__ void __launch_bounds__(THREADS, 4) rank_heads(const __grid_constant__ Sparse table) {
    wait_for_stream();
    EACH_CHUNK {
        const int64 count = rest + begin, cloud = b * table.most;
        const Share share((int)(rest < table.chunk ? rest : table.chunk));
        int sum = 0, all;
        for (int i = share.begin; i < share.end; ++i)
            sum += is_head<K>(table, b, begin + i, count);
        int rank = array<const int>(table.bins)[block] + sum_before(sum, all);
        for (int i = share.begin; i < share.end; ++i) {
            const int64 j = begin + i;
            const bool head = is_head<K>(table, b, j, count);
            if (table.by_point) {
                if (head) array<int>(table.ranks)[cloud + j] = rank;
                rank += head;
                continue;
            }
            if (head) {
                array<int>(table.starts)[cloud + rank] = (int)j;
                if (table.ranks != nullptr) {
                    const int n = array<const int>(table.ids)[cloud + j];
                    array<int>(table.inverse)[cloud + n] = 0;
                }
            }
            rank += head;
            array<int>(table.segments)[cloud + j] = rank - 1;
        }
    }
}

// Where the rows of each cloud begin, and their number: by the numbers of voxels, or `capacity`
// for each cloud.
__global__ void __launch_bounds__(THREADS, 4) lay_out(const __grid_constant__ Sparse table) {
    wait_for_stream();
    if (blockIdx.x != 0) return;
    const int* const voxels = array<const int>(table.totals);
    int* const offsets = array<int>(table.offsets);
    const Share share((int)table.clouds);
    int sum = 0, all;
    for (int b = share.begin; b < share.end; ++b)
        sum += table.capacity ? (int)table.capacity : voxels[b];
    int before = sum_before(sum, all);
    for (int b = share.begin; b < share.end; ++b) {
        offsets[b] = before;
        before += table.capacity ? (int)table.capacity : voxels[b];
    }
    if (threadIdx.x != 0) return;
    offsets[table.clouds] = all;
    if (table.found != nullptr) array<int64>(table.found)[0] = all;
}

template <typename K>
__global__ void __launch_bounds__(THREADS, 4) emit(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int64 points = table.clouds * table.most, stride = (int64)gridDim.x * blockDim.x;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < points; i += stride) {
        const int64 b = (unsigned)i / (unsigned)table.most, cloud = b * table.most, j = i - cloud;
        const int64 kept = array<const int>(table.kept)[b];
        if (j >= kept) continue;
        const K* const keys = array<const K>(table.keys, cloud);
        const int* const ids = array<const int>(table.ids, cloud);
        const K key = keys[j];
        const int segment = array<const int>(table.segments)[i], n = ids[j];
        int64 row = -1, head = 0;
        if (segment >= 0) {
            head = array<const int>(table.starts)[cloud + segment];
            if (keys[head] == key)  // not one of a voxel with too few points
                row = table.ranks == nullptr ? segment
                                             : array<const int>(table.ranks)[cloud + ids[head]];
        }
        if (table.capacity && row >= table.capacity) row = -1;
        if (row >= 0) row += array<const int>(table.offsets)[b];
        array<int>(table.inverse)[cloud + n] = (int)row;
        if (row < 0) continue;
        if (j == head) {
            array<int>(table.row_starts)[row] = (int)i;
            if (table.first != nullptr) array<int>(table.first)[row] = n;
            if (table.coords != nullptr) {
                const K z = (K)table.grid[2], y = (K)table.grid[1], xy = key / z;
                int* const coords = array<int>(table.coords, 4 * row);
                coords[0] = (int)b;
                coords[table.reversed ? 3 : 1] = (int)(xy / y);
                coords[2] = (int)(xy % y);
                coords[table.reversed ? 1 : 3] = (int)(key - xy * z);
            }
        }
        if (j == kept - 1 || keys[j + 1] != key) {
            const int count = (int)(j + 1 - head);
            array<int>(table.counts)[row] = count;
            if (table.limited != nullptr)
                array<int>(table.limited)[row] = count < table.slots ? count : (int)table.slots;
        }
    }
}

// Rows that no voxel takes.
__global__ void __launch_bounds__(THREADS, 4) pad_rows(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int64 stride = (int64)gridDim.x * blockDim.x;
    for (int64 r = (int64)blockIdx.x * blockDim.x + threadIdx.x; r < table.rows; r += stride) {
        const int64 b = (unsigned)r / (unsigned)table.capacity;
        if (r - b * table.capacity < array<const int>(table.totals)[b]) continue;
        array<int>(table.row_starts)[r] = -1;
        array<int>(table.counts)[r] = 0;
        if (table.limited != nullptr) array<int>(table.limited)[r] = 0;
        if (table.first != nullptr) array<int>(table.first)[r] = -1;
        if (table.coords != nullptr)
#pragma unroll
            for (int k = 0; k < 4; ++k) array<int>(table.coords)[4 * r + k] = -1;
    }
}

// ---------------------------------------------------------------------------------- rows of points

// The features of the first points of each row, of `slots` of them; what is left is filled.
template <typename U>
__global__ void __launch_bounds__(THREADS, 4) gather_rows(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int64 each = table.slots * table.channels, stride = (int64)gridDim.x * blockDim.x;
    const U fill = of_bits<U>(table.one);
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < table.rows * each;
         i += stride) {
        const int64 r = i / each, k = i - r * each, slot = k / table.channels;
        U x = fill;
        if (slot < array<const int>(table.counts)[r]) {
            const int64 start = array<const int>(table.row_starts)[r];
            const int64 b = (unsigned)start / (unsigned)table.most;
            const int64 n = array<const int>(table.ids)[start + slot];
            x = array<const U>(table.features, b * table.feature_batch + n * table.feature_row +
                                                   k - slot * table.channels)[0];
        }
        array<U>(table.out)[i] = x;
    }
}

// The centres of voxels; not a number for a row without one.
template <typename P>
__global__ void __launch_bounds__(THREADS, 4) row_centers(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int64 stride = (int64)gridDim.x * blockDim.x;
    for (int64 r = (int64)blockIdx.x * blockDim.x + threadIdx.x; r < table.rows; r += stride) {
        P* const out = array<P>(table.out, 3 * r);
        if (array<const int>(table.counts)[r] == 0) {
#pragma unroll
            for (int k = 0; k < 3; ++k) out[k] = Ordered<P>::not_a_number();
            continue;
        }
        const int64 start = array<const int>(table.row_starts)[r];
        const int64 b = (unsigned)start / (unsigned)table.most;
        const uint64 key = array<const uint64>(table.keys)[start];
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            const int voxel = (int)(key >> 21 * (2 - k) & 0x1fffff) - HALF_SPAN;
            const double corner =
                table.origins == nullptr
                    ? table.lattice[k]
                    : (double)(Coordinate<P>)load<double>(table.origins, table.origins_width,
                                                          b * table.origins_row + k);
            out[k] = Narrow<P>::of(corner + ((double)voxel + 0.5) * table.lattice[3 + k]);
        }
    }
}

// ------------------------------------------------------------------------------ reductions by row
//
// A voxel may have one point or all of them. So a thread takes a few consecutive points, adds up
// what belongs to a row, and brings that to memory by an atomic; none of them depends on the order.

constexpr int RUN = 8;

template <typename X>
__device__ __forceinline__ const X* features_of(const Sparse& table, int64 b, int64 n) {
    return array<const X>(table.features, b * table.feature_batch + n * table.feature_row);
}

// Call take(row, feature) for the points of a run, and done(place in exponents and sums) wherever
// a row ends.
template <typename X, typename Take, typename Done>
__device__ __forceinline__ void each_run(const Sparse& table, const Take& take, const Done& done) {
    const int64 runs = (table.most + RUN - 1) / RUN, channels = table.channels;
    const int64 all = table.clouds * runs * channels, stride = (int64)gridDim.x * blockDim.x;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += stride) {
        const int64 run = i / channels, channel = i - run * channels;
        const int64 b = run / runs, begin = (run - b * runs) * RUN;
        const int64 rest = array<const int>(table.kept)[b] - begin, cloud = b * table.most;
        const int n = (int)(rest < RUN ? rest : RUN);
        int64 row = -1;
        for (int k = 0; k < n; ++k) {
            const int64 id = array<const int>(table.ids)[cloud + begin + k];
            const int64 r = array<const int>(table.inverse)[cloud + id];
            if (r != row) {
                if (row >= 0) done(row * channels + channel);
                row = r;
            }
            if (r >= 0) take(r * channels + channel, r, features_of<X>(table, b, id)[channel]);
        }
        if (row >= 0) done(row * channels + channel);
    }
}

__global__ void __launch_bounds__(THREADS, 4) clear_sums(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int64 all = table.rows * table.channels, stride = (int64)gridDim.x * blockDim.x;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += stride) {
        array<uint64>(table.sums)[i] = 0;
        if (table.exponents != nullptr) array<int>(table.exponents)[i] = ZEROS;
    }
}

template <typename X>
__global__ void __launch_bounds__(THREADS, 4) largest_terms(const __grid_constant__ Sparse table) {
    wait_for_stream();
    int largest = ZEROS;
    each_run<X>(
        table,
        [&](int64, int64, X x) {
            const int exponent = exponent_of(widen<double>(x));
            if (exponent > largest) largest = exponent;
        },
        [&](int64 place) {
            if (largest != ZEROS) atomicMax(array<int>(table.exponents, place), largest);
            largest = ZEROS;
        });
}

template <typename X>
__global__ void __launch_bounds__(THREADS, 4) add_terms(const __grid_constant__ Sparse table) {
    wait_for_stream();
    uint64 sum = 0;
    each_run<X>(
        table,
        [&](int64 place, int64 row, X x) {
            const int exponent = array<const int>(table.exponents)[place];
            if (exponent == ZEROS || exponent == NOT_FINITE) return;
            const int scale = scale_of(array<const int>(table.counts)[row], exponent);
            sum += (uint64)(int64)rint(scaled(widen<double>(x), scale));
        },
        [&](int64 place) {
            if (sum != 0) atomicAdd(array<uint64>(table.sums, place), sum);
            sum = 0;
        });
}

template <typename O>
__global__ void __launch_bounds__(THREADS, 4) write_sums(const __grid_constant__ Sparse table) {
    wait_for_stream();
    const int64 all = table.rows * table.channels, stride = (int64)gridDim.x * blockDim.x;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += stride) {
        const int count = array<const int>(table.counts)[i / table.channels];
        const int exponent = array<const int>(table.exponents)[i];
        O y = of_bits<O>(table.one);
        if (exponent == NOT_FINITE) {
            y = Ordered<O>::not_a_number();
        } else if (count > 0) {
            double sum = 0;
            if (exponent != ZEROS) {
                sum = (double)(int64)array<const uint64>(table.sums)[i];
                if (table.kind) sum /= count;  // before it is scaled: a sum may be beyond the range
                sum = scaled(sum, -scale_of(count, exponent));
            }
            y = Narrow<O>::of(sum);
        }
        array<O>(table.out)[i] = y;
    }
}

// Of the smallest number the greatest key, where the minimum is asked for; NaN is greatest.
template <typename X>
__global__ void __launch_bounds__(THREADS, 4) find_extremes(const __grid_constant__ Sparse table) {
    wait_for_stream();
    typedef typename Ordered<X>::Key Key;
    const Key flip = table.kind ? ~(Key)0 : 0;
    Key most = 0;
    each_run<X>(
        table,
        [&](int64, int64, X x) {
            const Key key = Ordered<X>::nan(x) ? ~(Key)0 : Ordered<X>::of(x) ^ flip;
            if (key > most) most = key;
        },
        [&](int64 place) {
            if (most != 0) atomicMax(array<uint64>(table.sums, place), (uint64)most);
            most = 0;
        });
}

template <typename X>
__global__ void __launch_bounds__(THREADS, 4) write_extremes(const __grid_constant__ Sparse table) {
    wait_for_stream();
    typedef typename Ordered<X>::Key Key;
    const Key flip = table.kind ? ~(Key)0 : 0;
    const int64 all = table.rows * table.channels, stride = (int64)gridDim.x * blockDim.x;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += stride) {
        X y = of_bits<X>(table.one);
        if (array<const int>(table.counts)[i / table.channels] > 0) {
            const Key key = (Key)array<const uint64>(table.sums)[i];
            y = Ordered<X>::has_nan && key == ~(Key)0 ? Ordered<X>::not_a_number()
                                                      : Ordered<X>::back(key ^ flip);
        }
        array<X>(table.out)[i] = y;
    }
}
