// Samples of point clouds. What each kernel computes is defined by the function of the same name
// and parameters in robocache_cupy/_cpu/points.py.

#include "warp.cuh"

template <typename X> struct Cloud {
    typedef Computed<X, X> C;
    const X* at;
    const unsigned char* mask;
    int64 row, mask_step, count;

    __device__ __forceinline__ Cloud(const X* points, const void* lengths,
                                     const unsigned char* mask, int64 b, int64 N, int64 batch,
                                     int64 row, int64 lengths_width, int64 mask_row,
                                     int64 mask_step)
        : at(points + b * batch),
          mask(mask == nullptr ? nullptr : mask + b * mask_row),
          row(row),
          mask_step(mask_step),
          count(lengths == nullptr ? N : clamp(load<int64>(lengths, lengths_width, b), 0, N)) {}

    // The coordinates of a point, and whether it may be chosen.
    __device__ __forceinline__ bool read(int64 i, C& x, C& y, C& z) const {
        if (mask != nullptr && !mask[i * mask_step]) return false;
        const X* const p = at + i * row;
        x = widen<C>(p[0]);
        y = widen<C>(p[1]);
        z = widen<C>(p[2]);
        return x - x == 0 && y - y == 0 && z - z == 0;  // finite
    }
};

template <typename C> __device__ __forceinline__ C squared(C dx, C dy, C dz) {
    return (dx * dx + dy * dy) + dz * dz;
}

// ------------------------------------------------------------------------------- the first point

enum Rule { FIRST, CENTROID, GIVEN };

constexpr int LANES = 1024;  // partial sums of a centroid: their order is that of the reference

template <typename X>
__global__ void __launch_bounds__(1024) first_point(
    const X* __restrict__ points, const void* __restrict__ lengths,
    const unsigned char* __restrict__ mask, const void* __restrict__ starts,
    int64* __restrict__ indices, uint64* __restrict__ exchange, int64 clouds, int64 N,
    int64 points_batch, int64 points_row, int64 lengths_width, int64 mask_row, int64 mask_step,
    int64 samples, int64 rule, int64 starts_width, int64 start, int64 words) {
    wait_for_stream();
    typedef Computed<X, X> C;
    constexpr uint64 NONE = ~0ull;
    __shared__ double sums[3][LANES];
    __shared__ uint64 counted, farthest, lowest;

    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < words;
         i += (int64)gridDim.x * blockDim.x)
        exchange[i] = 0;

    for (int64 b = blockIdx.x; b < clouds; b += gridDim.x) {
        const Cloud<X> cloud(points, lengths, mask, b, N, points_batch, points_row, lengths_width,
                             mask_row, mask_step);
        C x = 0, y = 0, z = 0;
        if (threadIdx.x == 0) {
            counted = farthest = 0;
            lowest = NONE;
        }
        __syncthreads();
        if (rule == GIVEN) {
            const int64 i = starts == nullptr ? start : load<int64>(starts, starts_width, b);
            if (threadIdx.x == 0 && i >= 0 && i < cloud.count && cloud.read(i, x, y, z))
                lowest = i;
        }
        if (rule == CENTROID) {
            for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
                double sum[3] = {0, 0, 0};
                uint64 n = 0;
#pragma unroll 4
                for (int64 i = lane; i < cloud.count; i += LANES) {
                    if (!cloud.read(i, x, y, z)) continue;
                    sum[0] += x;
                    sum[1] += y;
                    sum[2] += z;
                    ++n;
                }
                for (int a = 0; a < 3; ++a) sums[a][lane] = sum[a];
                atomicAdd(&counted, n);
            }
            __syncthreads();
            for (int half = LANES / 2; half > 0; half /= 2) {
                for (int lane = threadIdx.x; lane < half; lane += blockDim.x)
                    for (int a = 0; a < 3; ++a) sums[a][lane] += sums[a][lane + half];
                __syncthreads();
            }
            const C cx = (C)(sums[0][0] / (double)counted), cy = (C)(sums[1][0] / (double)counted),
                    cz = (C)(sums[2][0] / (double)counted);
            double best = -1;
            int64 at = 0;
#pragma unroll 4
            for (int64 i = threadIdx.x; i < cloud.count; i += blockDim.x) {
                if (!cloud.read(i, x, y, z)) continue;
                const double d = squared(x - cx, y - cy, z - cz);
                if (d > best) {
                    best = d;
                    at = i;
                }
            }
            uint64 bits;
            memcpy(&bits, &best, 8);
            if (best >= 0) atomicMax(&farthest, bits);
            __syncthreads();
            if (best >= 0 && bits == farthest) atomicMin(&lowest, (uint64)at);
        }
        __syncthreads();
        const bool missing = lowest == NONE;
        __syncthreads();
        if (missing) {
            for (int64 i = threadIdx.x; i < cloud.count; i += blockDim.x) {
                if (!cloud.read(i, x, y, z)) continue;
                atomicMin(&lowest, (uint64)i);
                break;
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) indices[b * samples] = (int64)lowest;
        __syncthreads();
    }
}

// ------------------------------------------------------------------------------ farthest points

// Squared distances are never negative, so they are ordered as their bits are. A point that is not
// to be chosen, or not again, has the distance -1, which is less than all of them.
template <typename C> struct Distance;
template <> struct Distance<float> {
    typedef int Bits;
    static constexpr int64 INFINITE = 0x7f800000;
    static __device__ __forceinline__ float less(float x, float y) { return fminf(x, y); }
    static __device__ __forceinline__ float more(float x, float y) { return fmaxf(x, y); }
};
template <> struct Distance<double> {
    typedef int64 Bits;
    static constexpr int64 INFINITE = 0x7ff0000000000000;
    static __device__ __forceinline__ double less(double x, double y) { return fmin(x, y); }
    static __device__ __forceinline__ double more(double x, double y) { return fmax(x, y); }
};

// Several blocks may share a cloud. They meet in global memory, where all is zero at first:
//
//   word 0  how many blocks have come, plus CLOSED once no more are let in
//   word 1  how many share the cloud, once that is settled
//   HEADER  the candidates of even and of odd rounds: for each SLOTS blocks their distances, their
//           indices, and x, y and z
//
// The block that comes first waits a while for the others and closes the door. So those that share
// a cloud all run, and may wait for each other, whatever else the device does and however small it
// is; blocks that come later find the door closed. The result does not depend on who shares it.
constexpr uint64 CLOSED = 1ull << 32;
constexpr int PATIENCE = 128;  // looks at word 0, of half a microsecond each
constexpr int HEADER = 4;
constexpr int FIELDS = 5;
constexpr int SLOTS = 32;

__device__ __forceinline__ uint64 look(const uint64* word) {
    return *(const volatile uint64*)word;
}

// The place of this block among those that share a cloud, -1 for one that comes too late.
__device__ __forceinline__ int join(uint64* header, int64 blocks, int& members) {
    const uint64 before = atomicAdd(header, 1ull);
    if (before >= CLOSED) return -1;
    if (before == 0) {
        for (int i = 0; i < PATIENCE && look(header) < (uint64)blocks; ++i) {}
        members = (int)atomicAdd(header, CLOSED);
        *(volatile uint64*)(header + 1) = members;
    } else {
        do members = (int)look(header + 1);
        while (members == 0);
    }
    return (int)before;
}

// A field of a candidate goes with the number of its round in one 64-bit word, so none depends on
// the order in which words become visible. Two sets of slots suffice: a block writes those of a
// round only after it has read what every block wrote in the round before, and they wrote that
// after they had read the round before that, for it is made of what they read.
__device__ __forceinline__ void post(uint64* slot, int64 round, unsigned value) {
    *(volatile uint64*)slot = (uint64)round << 32 | value;
}

__device__ __forceinline__ uint64* slot_of(uint64* slots, int member) {
    return slots + (member / SLOTS * (FIELDS * SLOTS) + member % SLOTS);
}

// The points of a block are split among its warps, and those of a warp lie together: row j of a
// warp is its points 32 j to 32 j + 31, one to a lane. The first ROWS rows are kept in registers,
// coordinates and distances; of the rest the distances are in memory. Since warps and rows ascend,
// of several points equally far the one of the lowest warp, row and lane is the one to choose.
template <typename X, int ROWS>
__global__ void __launch_bounds__(512, ROWS > 8 ? 1 : sizeof(X) > 4 ? 1 : 2) farthest_points(
    const X* __restrict__ points, const void* __restrict__ lengths,
    const unsigned char* __restrict__ mask, int64* indices, Computed<X, X>* distances,
    uint64* exchange, int64 clouds, int64 N, int64 points_batch, int64 points_row,
    int64 lengths_width, int64 mask_row, int64 mask_step, int64 samples, int64 blocks,
    double radius) {
    wait_for_stream();
    typedef Computed<X, X> C;
    typedef Distance<C> D;
    typedef typename D::Bits Bits;
    constexpr bool SHARED = sizeof(C) == 4 && ROWS > 4;  // may blocks share a cloud?
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    __shared__ Bits of_warp[32];
    __shared__ int64 chosen;
    __shared__ C chosen_at[4];  // its coordinates and distance
    __shared__ int place_of_block, members_of_cloud;

    for (int64 item = blockIdx.x; item < clouds * blocks; item += gridDim.x) {
        const int64 b = item / blocks;
        const int64 slots_of_round = (blocks + SLOTS - 1) / SLOTS * (FIELDS * SLOTS);
        uint64* const header = exchange + b * (HEADER + 2 * slots_of_round);
        int place = 0, members = 1;
        if (SHARED && blocks > 1) {
            if (threadIdx.x == 0) {
                place_of_block = join(header, blocks, members);
                members_of_cloud = members;
            }
            __syncthreads();
            place = place_of_block;
            members = members_of_cloud;
            __syncthreads();
            if (place < 0) continue;
        }
        const Cloud<X> cloud(points, lengths, mask, b, N, points_batch, points_row, lengths_width,
                             mask_row, mask_step);
        const int64 share = (cloud.count + members - 1) / members;
        const int rows = (int)((share + blockDim.x - 1) / blockDim.x);
        const int64 first = place * share + warp * (int64)rows * WARP;  // of the warp
        const int count = (int)clamp(min((place + 1) * share, cloud.count) - first, 0, rows * WARP);
        C* const distance = distances + (b * N + first);

        C x[ROWS], y[ROWS], z[ROWS], d[ROWS];
#pragma unroll
        for (int j = 0; j < ROWS; ++j) {
            const int i = j * WARP + lane;
            x[j] = y[j] = z[j] = 0;
            d[j] = -1;
            if (i < count && cloud.read(first + i, x[j], y[j], z[j]))
                d[j] = of_bits<C>(D::INFINITE);
        }
#pragma unroll 1
        for (int i = ROWS * WARP + lane; i < count; i += WARP) {
            C x, y, z;
            distance[i] = cloud.read(first + i, x, y, z) ? of_bits<C>(D::INFINITE) : (C)-1;
        }

        const C limit = (C)radius * (C)radius;
        int64 index = indices[b * samples];
        C px = 0, py = 0, pz = 0;
        if (index >= 0) cloud.read(index, px, py, pz);
        int64 k = 1;
        for (; k < samples && index >= 0; ++k) {
            if (index >= first && index < first + count) {  // it is not to be chosen again
                const int i = (int)(index - first);
#pragma unroll
                for (int j = 0; j < ROWS; ++j)
                    if (i == j * WARP + lane) d[j] = -1;
                if (i >= ROWS * WARP && i % WARP == lane) distance[i] = -1;
            }
            C best = -1;
#pragma unroll
            for (int j = 0; j < ROWS; ++j) {
                if (j % 4 == 0 && j >= rows) break;
                d[j] = D::less(d[j], squared(x[j] - px, y[j] - py, z[j] - pz));
                best = D::more(best, d[j]);
            }
#pragma unroll 1
            for (int i = ROWS * WARP + lane; i < count; i += WARP) {
                const X* const p = cloud.at + (first + i) * points_row;
                const C at = distance[i];
                const C nearer = D::less(at, squared(widen<C>(p[0]) - px, widen<C>(p[1]) - py,
                                                     widen<C>(p[2]) - pz));
                if (nearer != at) distance[i] = nearer;
                best = D::more(best, nearer);
            }

            Bits bits;
            memcpy(&bits, &best, sizeof(bits));
            const Bits top = max_of_warp(bits);
            if (lane == 0) of_warp[warp] = top;
            __syncthreads();
            const C nothing = -1;
            Bits other;
            memcpy(&other, &nothing, sizeof(other));
            if (lane < warps) other = of_warp[lane];
            const Bits farthest = max_of_warp(other);
            const unsigned warp_of_it =
                min_of_warp(lane < warps && other == farthest ? (unsigned)lane : 31u);

            if ((unsigned)warp == warp_of_it) {
                unsigned found = ~0u;  // row and lane, in one number
                C fx = 0, fy = 0, fz = 0;
                if (bits == farthest && farthest >= 0) {
#pragma unroll
                    for (int j = ROWS - 1; j >= 0; --j) {
                        if (d[j] == best) {
                            found = j * WARP + lane;
                            fx = x[j];
                            fy = y[j];
                            fz = z[j];
                        }
                    }
#pragma unroll 1
                    for (int i = ROWS * WARP + lane; found == ~0u && i < count; i += WARP) {
                        if (distance[i] == best) {
                            found = i;
                            cloud.read(first + i, fx, fy, fz);
                        }
                    }
                }
                const unsigned lowest = min_of_warp(found);
                const bool has_it = lowest == ~0u ? lane == 0 : found == lowest;
                int64 candidate = lowest == ~0u ? -1 : first + lowest;
                bool tell = has_it;
                if constexpr (SHARED) {
                    if (members > 1) {
                        uint64* const slots = header + HEADER + (k & 1) * slots_of_round;
                        if (has_it) {
                            uint64* const slot = slot_of(slots, place);
                            const float fields[4] = {best, fx, fy, fz};
                            unsigned words[4];
                            memcpy(words, fields, sizeof(words));
                            post(slot, k, words[0]);
                            post(slot + SLOTS, k, (unsigned)candidate);
                            for (int f = 1; f < 4; ++f)
                                post(slot + (f + 1) * SLOTS, k, words[f]);
                        }
                        int64 key = ~0x7fffffffffffffffll;  // the farthest, and of those the lowest
#pragma unroll 1
                        for (int m = lane; m < members; m += WARP) {
                            const uint64* const slot = slot_of(slots, m);
                            uint64 words[FIELDS];
                            bool late;
                            do {
                                late = false;
#pragma unroll
                                for (int f = 0; f < FIELDS; ++f) {
                                    words[f] = look(slot + f * SLOTS);
                                    late |= words[f] >> 32 != (uint64)k;
                                }
                            } while (late);
                            const int64 candidate_key =
                                (int64)(words[0] << 32 | (~words[1] & 0xffffffff));
                            if (candidate_key > key) {
                                key = candidate_key;
                                best = of_bits<C>((int64)words[0]);
                                fx = of_bits<C>((int64)words[2]);
                                fy = of_bits<C>((int64)words[3]);
                                fz = of_bits<C>((int64)words[4]);
                            }
                        }
                        const int64 highest = max_of_warp(key);
                        candidate = highest < 0 ? -1 : (int64)(unsigned)~highest;
                        tell = highest < 0 ? lane == 0 : key == highest;
                    }
                }
                if (tell) {
                    chosen = candidate;
                    chosen_at[0] = fx;
                    chosen_at[1] = fy;
                    chosen_at[2] = fz;
                    chosen_at[3] = best;
                }
            }
            __syncthreads();
            index = chosen;
            px = chosen_at[0];
            py = chosen_at[1];
            pz = chosen_at[2];
            if (chosen_at[3] < limit) index = -1;
            if (index < 0) break;
            if (place == 0 && threadIdx.x == 0) indices[b * samples + k] = index;
        }
        if (place == 0)
#pragma unroll 1
            for (k += threadIdx.x; k < samples; k += blockDim.x) indices[b * samples + k] = -1;
        __syncthreads();
    }
}

// ---------------------------------------------------------------------------- the points chosen

template <typename X>
__global__ void __launch_bounds__(256) gather_points(
    const X* __restrict__ points, const int64* __restrict__ indices, X* __restrict__ out,
    int64 items, int64 points_batch, int64 points_row, int64 samples, int64 repeat,
    int64 width) {
    wait_for_stream();
    const int64 stride = (int64)gridDim.x * blockDim.x;
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += stride) {
        const int64 b = item / samples, k = item - b * samples;
        const int64* const of_cloud = indices + b * samples;
        int64 i = of_cloud[k];
        if (i < 0 && repeat) {
            int64 low = 0, high = k;  // the chosen ones are in front
            while (low < high) {
                const int64 middle = (low + high) / 2;
                if (of_cloud[middle] >= 0) low = middle + 1;
                else high = middle;
            }
            if (low > 0) i = of_cloud[k % low];
        }
        for (int64 a = 0; a < width; ++a)
            out[width * item + a] = i < 0 ? (X)0 : points[b * points_batch + i * points_row + a];
    }
}
