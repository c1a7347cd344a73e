// Point clouds to dense lattices. What each kernel computes is defined by the function of the same
// name in robocache_cupy/_cpu/voxel.py; the struct's fields are those of _core/table.py.

#include "cloud.cuh"
#include "scan.cuh"
#include "warp.cuh"
#include "fixed.cuh"
#include "ordered.cuh"

// ------------------------------------------------------------------------------ voxels of points

// Call f(index of the point among all, cloud, lattice, voxel, whether the point is in it) for every
// point, a thread each. PLAIN: as for sort_points.
template <typename P, int PLAIN, typename F>
__device__ __forceinline__ void each_voxel(const Cloud& table, const F& f) {
    typedef Coordinate<P> C;
    const int64 points = table.clouds * table.most, stride = (int64)gridDim.x * blockDim.x;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < points; i += stride) {
        const int64 b = quotient(i, table.most), n = i - b * table.most;
        const Lattice<C> lattice(table, b);
        int voxel[3] = {-1, -1, -1};
        bool inside = n < count_of(table, b) && (PLAIN || !masked(table, b, n));
        if (inside) {
            C p[3];
            load_point<P>(table, b, n, p);
            if (!PLAIN && table.moving) Transform<C>(table, b).apply(p);
            inside = lattice.template locate<PLAIN>(p, voxel);
        }
        f(i, b, lattice, voxel, inside);
    }
}

template <typename P, int PLAIN>
__global__ void __launch_bounds__(256) voxel_indices(const __grid_constant__ Cloud table) {
    wait_for_stream();
    int* const out = (int*)table.out;
    each_voxel<P, PLAIN>(table, [&](int64 i, int64, const auto&, const int voxel[3], bool inside) {
#pragma unroll
        for (int k = 0; k < 3; ++k) out[3 * i + k] = inside ? voxel[k] : -1;
    });
}

// ------------------------------------------------------------------------------- small results
//
// A result that stays in the L2 is cleared, and the points are scattered into it: who writes the
// same voxel writes the same, or adds one, so that the order is left open here too.

// Fill a run of elements, so many threads together. Not past the cache, as other results go: some
// are written again at once.
template <typename O>
__device__ __forceinline__ void fill_run(O* run, int64 length, O fill, int64 thread,
                                         int64 threads) {
    constexpr int V = 16 / sizeof(O);
    Pack<O, V> pack;
#pragma unroll
    for (int k = 0; k < V; ++k) pack.at[k] = fill;
    Raw<O, V> raw;
    memcpy(&raw, &pack, sizeof(raw));
    // Up to the first multiple of 16 bytes, and from the last on, one by one.
    int64 head = -(int64)((uint64)run / sizeof(O)) & (V - 1);
    if (head > length) head = length;
    const int64 packs = (length - head) / V, edges = length - packs * V;
    for (int64 i = thread; i < packs; i += threads) *(Raw<O, V>*)(run + head + i * V) = raw;
    for (int64 i = thread; i < edges; i += threads) run[i < head ? i : i + packs * V] = fill;
}

template <typename U>
__global__ void __launch_bounds__(256) clear_voxels(const __grid_constant__ Cloud table) {
    wait_for_stream();
    fill_run((U*)table.out, table.clouds * table.out_batch, (U)0,
             (int64)blockIdx.x * blockDim.x + threadIdx.x, (int64)gridDim.x * blockDim.x);
}

// Elements by their bits, `one` where a point is; or, of any number of points, how many there are.
template <typename P, typename U, int COUNT, int PLAIN>
__global__ void __launch_bounds__(256) scatter_points(const __grid_constant__ Cloud table) {
    wait_for_stream();
    const U one = (U)table.one;
    each_voxel<P, PLAIN>(table, [&](int64 i, int64 b, const auto& lattice, const int voxel[3],
                                    bool inside) {
        if constexpr (COUNT) {
            // Padding is many points in one voxel, where atomics would queue up: one for a warp. The
            // number of a voxel among all fits, as the result is small.
            const int lane = (int)threadIdx.x % WARP;
            const unsigned number = inside ? (unsigned)(b * table.out_batch) +
                                                 (unsigned)lattice.template linear<int>(voxel)
                                           : ~0u;
            const bool whole = i - lane + WARP <= table.clouds * table.most;
            if (whole && same_in_warp(number)) {
                if (inside && lane == 0) atomicAdd((U*)table.out + number, WARP * one);
            } else if (inside) {
                atomicAdd((U*)table.out + number, one);
            }
        } else if (inside) {
            ((U*)table.out)[b * table.out_batch + lattice.template linear<int>(voxel)] = one;
        }
    });
}

// ---------------------------------------------------------------------- points, sorted by slabs
//
//     cloud                                     lattice
//     ┌───────┬───────┬──── ─┐                 ┌────────┬────────┬──── ─┐
//     │ chunk │ chunk │ ...  │                 │  slab  │  slab  │ ...  │
//     └───────┴───────┴──── ─┘                 └────────┴────────┴──── ─┘
//   1. a block takes a chunk of points and sorts them by slab, in shared memory
//   2. a block takes a slab of voxels, gathers its points from all chunks, and reduces them in
//      shared memory to the slab's part of the result
//
// No voxel is written twice, none is cleared first, and no atomic leaves the chip. The order in
// which points meet in a voxel is left open, and none of the reductions depends on it.

constexpr int MOST_POINTS = 3840;  // of a chunk: what shared memory holds
constexpr int MOST_SLABS = 2048;  // what is counted in shared memory
constexpr unsigned NONE = ~0u;

struct Sorted {
    // A point is its voxel in the slab << 16 | its place in the chunk.
    unsigned* points;
    // Where each slab begins, in each chunk; one more is the end.
    unsigned short* begins;

    __device__ __forceinline__ Sorted(const Cloud& table) {
        points = (unsigned*)table.sorted;
        begins = (unsigned short*)(points + table.clouds * table.chunks * table.chunk);
    }
};

// PLAIN: floats that lie together, nothing that sets points or clouds apart, and few voxels.
template <typename P, int PLAIN>
__global__ void __launch_bounds__(384, sizeof(P) == 8 ? 2 : 3)
    sort_points(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef Coordinate<P> C;
    __shared__ unsigned place[MOST_POINTS], sorted[MOST_POINTS];
    __shared__ unsigned short order[MOST_POINTS];  // among the chunk's points in the same slab
    __shared__ int cursor[MOST_SLABS + 1];
    typedef typename PickIndex<PLAIN>::type Index;  // of a voxel
    const Sorted all(table);
    const int slabs = (int)table.slabs, bits = (int)table.bits;
    const Index room = (Index)table.slabs << bits;
    for (int64 block = blockIdx.x; block < table.clouds * table.chunks; block += gridDim.x) {
        const int64 b = (unsigned)block / (unsigned)table.chunks;
        const int64 first = (block - b * table.chunks) * table.chunk;
        const int64 rest = count_of(table, b) - first;
        const int n = rest < 0 ? 0 : (int)(rest < table.chunk ? rest : table.chunk);
        for (int s = threadIdx.x; s < slabs; s += blockDim.x) cursor[s] = 0;
        __syncthreads();
        const Lattice<C> lattice(table, b);
        const Transform<C> transform(table, b);
        const auto put = [&](int i, const C p[3]) {
            int voxel[3];
            unsigned where = NONE;
            if (lattice.template locate<PLAIN>(p, voxel)) {
                const Index inside = lattice.template linear<Index>(voxel) - (Index)table.first;
                if (inside >= 0 && inside < room) {
                    const int slab = (int)(inside >> bits);
                    where = (unsigned)slab << 16 | (unsigned)(inside & ((1 << bits) - 1));
                    order[i] = (unsigned short)atomicAdd(cursor + slab, 1);
                }
            }
            place[i] = where;
        };
        if (PLAIN) {
            // Four points are three words of 16 bytes.
            const uint4* const from =
                (const uint4*)((const float*)table.points + b * table.batch + first * 3);
            const int whole = n & ~3;
            for (int i = threadIdx.x * 4; i < whole; i += blockDim.x * 4) {
                uint4 words[3];
                float p[12];
#pragma unroll
                for (int k = 0; k < 3; ++k) words[k] = __ldg(from + i / 4 * 3 + k);
                memcpy(p, words, sizeof(p));
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    const C q[3] = {(C)p[3 * k], (C)p[3 * k + 1], (C)p[3 * k + 2]};
                    put(i + k, q);
                }
            }
            for (int i = whole + threadIdx.x; i < n; i += blockDim.x) {
                C p[3];
                load_point<P>(table, b, first + i, p);
                put(i, p);
            }
        } else {
            for (int i = threadIdx.x; i < n; i += blockDim.x) {
                C p[3];
                load_point<P>(table, b, first + i, p);
                if (table.moving) transform.apply(p);
                if (table.moved != nullptr) {
                    C* const moved = (C*)table.moved + 3 * (b * table.most + first + i);
#pragma unroll
                    for (int k = 0; k < 3; ++k) moved[k] = p[k];
                }
                if (masked(table, b, first + i)) place[i] = NONE;
                else put(i, p);
            }
        }
        __syncthreads();
        scan(cursor, slabs);
        unsigned short* const begins = all.begins + block * (table.slabs + 1);
        for (int s = threadIdx.x; s <= slabs; s += blockDim.x) begins[s] = (unsigned short)cursor[s];
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const unsigned where = place[i];
            if (where != NONE)
                sorted[cursor[where >> 16] + order[i]] = where << 16 | (unsigned)i;
        }
        __syncthreads();
        unsigned* const points = all.points + block * table.chunk;
        const int kept = cursor[slabs];
        for (int i = threadIdx.x; i < kept; i += blockDim.x) points[i] = sorted[i];
        __syncthreads();
    }
}

// Call f(voxel in the slab, index of the point) for every point in slab s of cloud b.
template <typename F>
__device__ __forceinline__ void each_point(const Cloud& table, int64 b, int64 s, const F& f) {
    const Sorted all(table);
    // Threads that share a chunk, by powers of two: a division costs more than a chunk's few points.
    const int bits = blockDim.x >> table.lane_bits ? (int)table.lane_bits : 0, lanes = 1 << bits;
    const int lane = threadIdx.x & (lanes - 1), chunks = (int)table.chunks;
    for (int c = threadIdx.x >> bits; c < chunks; c += blockDim.x >> bits) {
        const int64 block = b * table.chunks + c;
        const unsigned short* const begins = all.begins + block * (table.slabs + 1) + s;
        const unsigned* const points = all.points + block * table.chunk;
        const int end = begins[1];
        for (int i = begins[0] + lane; i < end; i += lanes) {
            const unsigned point = points[i];
            f((int)(point >> 16), c * table.chunk + (int)(point & 0xffffu));
        }
    }
}

// The number of voxels of a slab that are on the lattice.
__device__ __forceinline__ int voxels_of(const Cloud& table, int64 begin) {
    const int64 most = (int64)1 << table.bits, rest = table.voxels - begin;
    return (int)(rest < most ? rest : most);
}

// Slabs behind the lattice's end are none.
#define EACH_SLAB                                                                              \
    for (int64 block = blockIdx.x; block < table.clouds * table.slabs; block += gridDim.x)     \
        if (const int64 b = (unsigned)block / (unsigned)table.slabs, s = block - b * table.slabs, \
            begin = table.first + (s << table.bits);                                           \
            begin < table.voxels)

// ------------------------------------------------------------------------------------- occupancy

// 32 bits from any place on.
__device__ __forceinline__ unsigned bits_from(const unsigned* words, int place) {
    const int w = place >> 5, shift = place & 31;
    return shift ? words[w] >> shift | words[w + 1] << (32 - shift) : words[w];
}

// Elements of any type by their bits, `one` where a point is; a word of 32 bits where PACKED.
template <typename U, int PACKED>
__global__ void __launch_bounds__(512) occupancy(const __grid_constant__ Cloud table) {
    wait_for_stream();
    constexpr int MOST = 65536, V = 16 / sizeof(U);
    __shared__ unsigned bits[MOST / 32 + 1];
    const U one = (U)table.one;
    EACH_SLAB {
        const int n = voxels_of(table, begin), words = (n + 31) / 32;
        for (int w = threadIdx.x; w <= words; w += blockDim.x) bits[w] = 0;
        __syncthreads();
        each_point(table, b, s, [&](int voxel, int64) {
            atomicOr(bits + (voxel >> 5), 1u << (voxel & 31));
        });
        __syncthreads();
        if (PACKED) {
            unsigned* const out = (unsigned*)table.out + b * table.out_batch + begin / 32;
            for (int w = threadIdx.x; w < words; w += blockDim.x) out[w] = bits[w];
        } else {
            U* const out = (U*)table.out + b * table.out_batch + begin;
            // Up to the first multiple of 16 bytes, and from the last on, one by one.
            int head = (int)(-(int64)((uint64)out / sizeof(U)) & (V - 1));
            if (head > n) head = n;
            const int packs = (n - head) / V;
            for (int i = threadIdx.x; i < packs; i += blockDim.x) {
                const unsigned here = bits_from(bits, head + i * V);
                Pack<unsigned, 4> pack;
#pragma unroll
                for (int k = 0; k < 4; ++k) pack.at[k] = spread<U>(here >> k * (V / 4), one);
                store_pack((unsigned*)(out + head + i * V), pack);
            }
            const int edges = n - packs * V;
            for (int i = threadIdx.x; i < edges; i += blockDim.x) {
                const int v = i < head ? i : i + packs * V;
                out[v] = bits[v >> 5] >> (v & 31) & 1 ? one : (U)0;
            }
        }
        __syncthreads();
    }
}

// ---------------------------------------------------------------------------------------- counts

template <typename O>
__global__ void __launch_bounds__(512) count(const __grid_constant__ Cloud table) {
    wait_for_stream();
    constexpr int MOST = 8192, V = 16 / sizeof(O);
    constexpr int most = sizeof(O) == 1 ? 255 : sizeof(O) == 2 ? 65535 : 0x7fffffff;
    __shared__ int counts[MOST];
    const auto kept = [&](int v) { return (O)(counts[v] < most ? counts[v] : most); };
    EACH_SLAB {
        const int n = voxels_of(table, begin);
        for (int v = threadIdx.x; v < n; v += blockDim.x) counts[v] = 0;
        __syncthreads();
        each_point(table, b, s, [&](int voxel, int64) { atomicAdd(counts + voxel, 1); });
        __syncthreads();
        O* const out = (O*)table.out + b * table.out_batch + begin;
        int head = (int)(-(int64)((uint64)out / sizeof(O)) & (V - 1));
        if (head > n) head = n;
        const int packs = (n - head) / V;
        for (int i = threadIdx.x; i < packs; i += blockDim.x) {
            Pack<O, V> pack;
#pragma unroll
            for (int k = 0; k < V; ++k) pack.at[k] = kept(head + i * V + k);
            store_pack(out + head + i * V, pack);
        }
        const int edges = n - packs * V;
        for (int i = threadIdx.x; i < edges; i += blockDim.x) {
            const int v = i < head ? i : i + packs * V;
            out[v] = kept(v);
        }
        __syncthreads();
    }
}

// ------------------------------------------------------------- reductions of features, by channel
//
// Few voxels of a slab are occupied: only these get room in shared memory, by their rank among the
// slab's voxels, and where they are more than there is room for, one part after another.

constexpr int FEATURE_SLAB = 8192;
constexpr int GROUP = 4;  // channels at once

template <typename X>
__device__ __forceinline__ const X* features_of(const Cloud& table, int64 b, int64 n) {
    return (const X*)table.features + (b * table.feature_batch + n * table.feature_row);
}

struct Ranks {
    static constexpr int LIST = 1024;
    unsigned bits[FEATURE_SLAB / 32];
    int before[FEATURE_SLAB / 32 + 1];  // occupied voxels before each word, and all of them
    // The slab's points, unless they are too many: who walks them again need not gather them.
    unsigned short voxels[LIST];
    unsigned points[LIST];
    int listed;

    __device__ __forceinline__ void build(const Cloud& table, int64 b, int64 s, int n) {
        const int words = (n + 31) / 32;
        for (int w = threadIdx.x; w < words; w += blockDim.x) bits[w] = 0;
        if (threadIdx.x == 0) listed = 0;
        __syncthreads();
        each_point(table, b, s, [&](int voxel, int64 p) {
            atomicOr(bits + (voxel >> 5), 1u << (voxel & 31));
            const int i = atomicAdd(&listed, 1);
            if (i >= LIST) return;
            voxels[i] = (unsigned short)voxel;
            points[i] = (unsigned)p;
        });
        __syncthreads();
        for (int w = threadIdx.x; w < words; w += blockDim.x) before[w] = __popc(bits[w]);
        __syncthreads();
        scan(before, words);
    }

    __device__ __forceinline__ int of(int voxel) const {
        return before[voxel >> 5] + __popc(bits[voxel >> 5] & ((1u << (voxel & 31)) - 1));
    }

    // Call f(rank, voxel, index of the point) for every point whose rank is from `from` on, of
    // those for which there is room.
    template <typename F>
    __device__ __forceinline__ void each(const Cloud& table, int64 b, int64 s, int from, int room,
                                         const F& f) const {
        const auto ranked = [&](int voxel, int64 p) {
            const int rank = of(voxel) - from;
            if (rank >= 0 && rank < room) f(rank, voxel, p);
        };
        if (listed <= LIST) {
            for (int i = threadIdx.x; i < listed; i += blockDim.x) ranked(voxels[i], points[i]);
        } else {
            each_point(table, b, s, ranked);
        }
    }
};

// Some channels of a point, all of them under way at once.
template <typename X> struct Channels {
    X at[GROUP];

    __device__ __forceinline__ Channels(const X* p, int channels) {
#pragma unroll
        for (int c = 0; c < GROUP; ++c)
            if (c < channels) at[c] = __ldg(p + c);
    }
};

// The slab's part of the result, filled: few voxels are occupied, and those are written again.
template <typename O>
__device__ __forceinline__ O* fill_voxels(const Cloud& table, int64 b, int64 begin, int n, O fill) {
    O* const out = (O*)table.out + b * table.out_batch + begin * table.out_voxel;
    const bool last = table.out_channel == 1;
    const int64 runs = last ? 1 : table.channels, length = last ? n * table.channels : n;
    for (int64 r = 0; r < runs; ++r)
        fill_run(out + r * table.out_channel, length, fill, threadIdx.x, blockDim.x);
    return out;
}

// ----------------------------------------------------------------------------------- sum and mean

// Threads of a block at most, so many that nothing is spilled.
template <typename X> constexpr int TOTAL_THREADS = sizeof(X) == 8 || sizeof(X) == 1 ? 384 : 512;

template <typename X, typename O>
__global__ void __launch_bounds__(TOTAL_THREADS<X>, 2) total(const __grid_constant__ Cloud table) {
    wait_for_stream();
    constexpr int ROOM = 576;
    __shared__ Ranks ranks;
    __shared__ int number[ROOM], exponents[ROOM * GROUP];
    __shared__ unsigned low[ROOM * GROUP], high[ROOM * GROUP];
    __shared__ unsigned short voxels[ROOM];
    const bool mean = table.kind & 1, quick = table.kind & 2;
    const O fill = Narrow<O>::of(table.fill);
    EACH_SLAB {
        const int n = voxels_of(table, begin);
        ranks.build(table, b, s, n);
        O* const out = fill_voxels(table, b, begin, n, fill);
        const int all = ranks.before[(n + 31) / 32];
        for (int channel = 0; channel < table.channels; channel += GROUP) {
            const int channels =
                (int)(table.channels - channel < GROUP ? table.channels - channel : GROUP);
            for (int from = 0; from < all; from += ROOM) {
                for (int i = threadIdx.x; i < ROOM * GROUP; i += blockDim.x) {
                    exponents[i] = ZEROS;
                    low[i] = high[i] = 0;
                    if (i < ROOM) number[i] = 0;
                }
                __syncthreads();
                ranks.each(table, b, s, from, ROOM, [&](int rank, int voxel, int64 p) {
                    const Channels<X> x(features_of<X>(table, b, p) + channel, channels);
                    atomicAdd(number + rank, 1);
                    voxels[rank] = (unsigned short)voxel;
#pragma unroll
                    for (int c = 0; c < GROUP; ++c) {
                        const int i = rank * GROUP + c;
                        if (c >= channels) break;
                        if (quick) atomicAdd((float*)low + i, widen<float>(x.at[c]));
                        else atomicMax(exponents + i, exponent_of(widen<double>(x.at[c])));
                    }
                });
                __syncthreads();
                if (!quick) {
                    ranks.each(table, b, s, from, ROOM, [&](int rank, int, int64 p) {
                        const Channels<X> x(features_of<X>(table, b, p) + channel, channels);
                        const int count = number[rank];
#pragma unroll
                        for (int c = 0; c < GROUP; ++c) {
                            if (c >= channels) break;
                            const int i = rank * GROUP + c, exponent = exponents[i];
                            if (exponent == ZEROS || exponent == NOT_FINITE) continue;
                            const int64 term = (int64)rint(
                                scaled(widen<double>(x.at[c]), scale_of(count, exponent)));
                            // In two words: shared memory has no 64-bit addition of its own.
                            const unsigned word = (unsigned)term;
                            const unsigned old = atomicAdd(low + i, word);
                            atomicAdd(high + i, (unsigned)((uint64)term >> 32) + (old + word < old));
                        }
                    });
                    __syncthreads();
                }
                const int here = all - from < ROOM ? all - from : ROOM;
                for (int k = threadIdx.x; k < here * channels; k += blockDim.x) {
                    const int rank = k / channels, c = k - rank * channels, i = rank * GROUP + c;
                    const int exponent = exponents[i];
                    const int count = number[rank];
                    double y = quick ? ((const float*)low)[i]
                                     : (double)(int64)((uint64)high[i] << 32 | low[i]);
                    if (mean) y /= count;  // before it is scaled: a sum may be beyond the range
                    if (!quick && exponent != ZEROS && exponent != NOT_FINITE)
                        y = scaled(y, -scale_of(count, exponent));
                    out[voxels[rank] * table.out_voxel + (channel + c) * table.out_channel] =
                        exponent == NOT_FINITE ? Ordered<O>::not_a_number()
                                               : Narrow<O>::of(y);
                }
                __syncthreads();
            }
        }
    }
}

// -------------------------------------------------------------------------------- max, min, first

template <typename X>
__global__ void __launch_bounds__(256, 4) extreme(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef typename Ordered<X>::Key Key;
    constexpr int ROOM = 768;
    __shared__ Ranks ranks;
    __shared__ Key keys[ROOM * GROUP];
    __shared__ unsigned short voxels[ROOM];
    const Key flip = table.kind ? ~(Key)0 : 0;  // of the smallest number the greatest key
    const X fill = of_bits<X>(table.one), nan = Ordered<X>::not_a_number();
    constexpr bool nans = Ordered<X>::has_nan;
    EACH_SLAB {
        const int n = voxels_of(table, begin);
        ranks.build(table, b, s, n);
        X* const out = fill_voxels(table, b, begin, n, fill);
        const int all = ranks.before[(n + 31) / 32];
        for (int channel = 0; channel < table.channels; channel += GROUP) {
            const int channels =
                (int)(table.channels - channel < GROUP ? table.channels - channel : GROUP);
            for (int from = 0; from < all; from += ROOM) {
                for (int i = threadIdx.x; i < ROOM * GROUP; i += blockDim.x) keys[i] = 0;
                __syncthreads();
                ranks.each(table, b, s, from, ROOM, [&](int rank, int voxel, int64 p) {
                    const Channels<X> x(features_of<X>(table, b, p) + channel, channels);
                    voxels[rank] = (unsigned short)voxel;
#pragma unroll
                    for (int c = 0; c < GROUP; ++c) {
                        if (c >= channels) break;
                        atomicMax(keys + rank * GROUP + c,
                                  Ordered<X>::nan(x.at[c]) ? ~(Key)0 : Ordered<X>::of(x.at[c]) ^ flip);
                    }
                });
                __syncthreads();
                const int here = all - from < ROOM ? all - from : ROOM;
                for (int k = threadIdx.x; k < here * channels; k += blockDim.x) {
                    const int rank = k / channels, c = k - rank * channels;
                    const Key key = keys[rank * GROUP + c];
                    out[voxels[rank] * table.out_voxel + (channel + c) * table.out_channel] =
                        nans && key == ~(Key)0 ? nan : Ordered<X>::back(key ^ flip);
                }
                __syncthreads();
            }
        }
    }
}

// The features of the point that comes first in its cloud: elements of any type, by their size.
template <typename U>
__global__ void __launch_bounds__(256, 4) first(const __grid_constant__ Cloud table) {
    wait_for_stream();
    constexpr int ROOM = 2048;
    __shared__ Ranks ranks;
    __shared__ unsigned firsts[ROOM];
    __shared__ unsigned short voxels[ROOM];
    const U fill = of_bits<U>(table.one);
    EACH_SLAB {
        const int n = voxels_of(table, begin);
        ranks.build(table, b, s, n);
        U* const out = fill_voxels(table, b, begin, n, fill);
        const int all = ranks.before[(n + 31) / 32];
        for (int from = 0; from < all; from += ROOM) {
            for (int i = threadIdx.x; i < ROOM; i += blockDim.x) firsts[i] = NONE;
            __syncthreads();
            ranks.each(table, b, s, from, ROOM, [&](int rank, int voxel, int64 p) {
                voxels[rank] = (unsigned short)voxel;
                atomicMin(firsts + rank, (unsigned)p);
            });
            __syncthreads();
            const int here = all - from < ROOM ? all - from : ROOM;
            const int channels = (int)table.channels;
            for (int64 k = threadIdx.x; k < (int64)here * channels; k += blockDim.x) {
                const int rank = (int)(k / channels), c = (int)(k - (int64)rank * channels);
                out[voxels[rank] * table.out_voxel + c * table.out_channel] =
                    features_of<U>(table, b, firsts[rank])[c];
            }
            __syncthreads();
        }
    }
}

// Mark, of the points in each voxel, the one that comes first in its cloud.
__global__ void __launch_bounds__(256, 4) keep_first(const __grid_constant__ Cloud table) {
    wait_for_stream();
    __shared__ Ranks ranks;
    constexpr int ROOM = 2048;
    __shared__ unsigned firsts[ROOM];
    unsigned char* const kept = (unsigned char*)table.out;
    EACH_SLAB {
        const int n = voxels_of(table, begin);
        ranks.build(table, b, s, n);
        const int all = ranks.before[(n + 31) / 32];
        for (int from = 0; from < all; from += ROOM) {
            for (int i = threadIdx.x; i < ROOM; i += blockDim.x) firsts[i] = NONE;
            __syncthreads();
            ranks.each(table, b, s, from, ROOM, [&](int rank, int, int64 p) {
                atomicMin(firsts + rank, (unsigned)p);
            });
            __syncthreads();
            const int here = all - from < ROOM ? all - from : ROOM;
            for (int k = threadIdx.x; k < here; k += blockDim.x)
                kept[b * table.most + firsts[k]] = 1;
            __syncthreads();
        }
    }
}

// ----------------------------------------------------------------------------------- the gradient

// Mark, of the points in each voxel and for each channel, the one whose feature is the result: of
// equal ones, and of all where the first is asked for, the one that comes first in its cloud.
template <typename X>
__global__ void __launch_bounds__(256, 4) choose_points(const __grid_constant__ Cloud table) {
    wait_for_stream();
    typedef typename Ordered<X>::Key Key;
    constexpr int ROOM = 512;
    __shared__ Ranks ranks;
    __shared__ Key keys[ROOM * GROUP];
    __shared__ unsigned firsts[ROOM * GROUP];
    const bool of_any = table.kind == 2;  // the first, whatever its feature
    const Key flip = table.kind == 1 ? ~(Key)0 : 0;
    const auto key_of = [&](X x) {
        return of_any ? (Key)0 : Ordered<X>::nan(x) ? ~(Key)0 : Ordered<X>::of(x) ^ flip;
    };
    unsigned char* const chosen = (unsigned char*)table.out;
    EACH_SLAB {
        const int n = voxels_of(table, begin);
        ranks.build(table, b, s, n);
        const int all = ranks.before[(n + 31) / 32];
        for (int channel = 0; channel < table.channels; channel += GROUP) {
            const int channels =
                (int)(table.channels - channel < GROUP ? table.channels - channel : GROUP);
            for (int from = 0; from < all; from += ROOM) {
                for (int i = threadIdx.x; i < ROOM * GROUP; i += blockDim.x) {
                    keys[i] = 0;
                    firsts[i] = NONE;
                }
                __syncthreads();
                // Call f(place in the lists, channel of the group, key) for every point.
                const auto each = [&](const auto& f) {
                    ranks.each(table, b, s, from, ROOM, [&](int rank, int, int64 p) {
                        const Channels<X> x(features_of<X>(table, b, p) + channel, channels);
#pragma unroll
                        for (int c = 0; c < GROUP; ++c)
                            if (c < channels) f(rank * GROUP + c, c, p, key_of(x.at[c]));
                    });
                    __syncthreads();
                };
                each([&](int i, int, int64, Key key) { atomicMax(keys + i, key); });
                each([&](int i, int, int64 p, Key key) {
                    if (keys[i] == key) atomicMin(firsts + i, (unsigned)p);
                });
                each([&](int i, int c, int64 p, Key) {
                    chosen[(b * table.most + p) * table.channels + channel + c] =
                        firsts[i] == (unsigned)p;
                });
            }
        }
    }
}

// What each point gets of its voxel: all, a part where `counts` are given, or nothing where it is
// not chosen. Without a number of blocks the compiler keeps to 32 registers, and takes a stack on
// sm_100.
template <typename X, typename Y>
__global__ void __launch_bounds__(256, 4)
    gather_voxels(const X* __restrict__ grad, const int* __restrict__ indices,
                  const int* __restrict__ counts, const unsigned char* __restrict__ chosen,
                  Y* __restrict__ out, int64 items, int64 most, int64 channels, int64 size_y,
                  int64 size_z, int64 voxels, int64 voxel_step, int64 channel_step) {
    wait_for_stream();
    typedef Computed<X, Y> C;
    const auto divided = [](int64 x, int64 y) {  // in a fraction of the time
        return (x | y) >> 32 ? x / y : (int64)((unsigned)x / (unsigned)y);
    };
    const int64 stride = (int64)gridDim.x * blockDim.x;
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += stride) {
        const int64 point = divided(item, channels), channel = item - point * channels;
        const int* const at = indices + 3 * point;
        const int i = __ldg(at);
        C x = 0;
        if (i >= 0 && (chosen == nullptr || __ldg(chosen + item))) {
            const int64 b = divided(point, most);
            const int64 voxel = (i * size_y + __ldg(at + 1)) * size_z + __ldg(at + 2);
            x = widen<C>(__ldg(grad + b * voxels * channels + voxel * voxel_step +
                               channel * channel_step));
            if (counts != nullptr) x /= (C)__ldg(counts + b * voxels + voxel);
        }
        out[item] = Narrow<Y>::of(x);
    }
}
