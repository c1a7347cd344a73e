// The matching of keys. What each kernel computes is defined by the function of the same name and
// parameters in robocache_cupy/_cpu/asof.py.

#include "time.cuh"

enum Direction { BACKWARD, FORWARD, NEAREST };

// Keys to match one row's keys with mostly ascend, too. So a block takes some that follow one another:
//
//     keys of the row   ────────────[ k k k k k k ]──────────────
//                                   ▲             ▲
//     targets           ─────────[ q0 q q q ... q  q ]───────────
//
//   1. two searches of the row, for the first target and for the last
//   2. the keys between both come to shared memory, one after another
//   3. each target between both is searched for among these; another one, in the whole row
//
// With a search of the row for each target, 10^6 targets among 10^6 keys take twice as long.
constexpr int TILE = 1024;  // targets of a block
constexpr int NEARBY = 2048;  // keys that are brought
constexpr int AT_ONCE = 4;  // targets of a thread
// Blocks on a processor at once: as many as registers allow without spilling.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ != 900
constexpr int TILED_BLOCKS = 5;
#else
constexpr int TILED_BLOCKS = 8;
#endif

template <typename W, typename Key>
__device__ __forceinline__ void match_tiles(const Key* src, const Key* tgt, int* index, int64 S,
                                            int64 src_row, int64 items, int64 T, int64 tgt_row,
                                            W tolerance) {
    __shared__ Key nearby[NEARBY];
    __shared__ int bounds[2];
    const unsigned tiles = ((unsigned)T + TILE - 1) / TILE;
    const unsigned blocks = (unsigned)items / (unsigned)T * tiles;
    for (unsigned block = blockIdx.x; block < blocks; block += gridDim.x) {
        const unsigned b = block / tiles, begin = (block - b * tiles) * TILE;
        const int n = (int)min((unsigned)TILE, (unsigned)T - begin);
        const Key* const keys = src + b * src_row;
        const Key* const targets = tgt + b * tgt_row + begin;
        int* const out = index + b * T + begin;
        Row<W> row{};
        row.stamps = keys;
        row.n = S;
        row.step = 1;
        row.width = sizeof(Key);
        row.narrow = sizeof(Key) == 4;
        __builtin_assume(keys != nullptr && S < (1 << 30));
        const Key low = __ldg(targets), high = __ldg(targets + n - 1);
        const Team warp((int)blockDim.x / WARP);
        for (int i = warp.index(); i < 2; i += warp.teams()) {
            const int bound = warp.upper_bound(keys, (int)S, i == 0 ? low : high);
            if (warp.lane == 0) bounds[i] = bound;
        }
        __syncthreads();
        const int first = bounds[0], count = bounds[1] - first;
        const bool brought = count >= 0 && count <= NEARBY;
        if (brought) {
#pragma unroll 4
            for (int i = threadIdx.x; i < count; i += blockDim.x) nearby[i] = __ldg(keys + first + i);
        }
        __syncthreads();
        const auto is_between = [=](Key q) { return brought && low <= q && q <= high; };
        const auto near_enough = [=](Key q, int match) {
            if (match < 0 || tolerance < 0) return match;
            const Key key = __ldg(keys + match);  // infinity is as far from itself as a NaN
            return key == q || within(elapsed((W)q, (W)key), tolerance) ? match : -1;
        };
        for (int i = threadIdx.x; i < n; i += blockDim.x * AT_ONCE) {
            Key q[AT_ONCE];
            int below[AT_ONCE];
            bool all = true;
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                q[u] = __ldg(targets + min(i + u * (int)blockDim.x, n - 1));
                below[u] = 0;
            }
            for (int len = brought ? count : 0; len > 0;) {  // as many steps for all of them
                const int half = (len + 1) / 2;
#pragma unroll
                for (int u = 0; u < AT_ONCE; ++u)
                    if (nearby[below[u] + half - 1] <= q[u]) below[u] += half;
                len -= half;
            }
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                const int k = i + u * (int)blockDim.x;
                if (k >= n) break;
                if (is_between(q[u])) out[k] = near_enough(q[u], first + below[u] - 1);
                else all = false;
            }
            if (all) continue;
#pragma unroll 1
            for (int k = i; k < min(n, i + (int)blockDim.x * AT_ONCE); k += blockDim.x) {
                const Key other = __ldg(targets + k);
                if (is_between(other)) continue;
                out[k] = is_nan((W)other)
                             ? -1
                             : near_enough(other, (int)row.upper_bound((W)other) - 1);
            }
        }
        __syncthreads();
    }
}

// PLAIN > 1: all rows have S keys, keys lie one after another, in PLAIN bytes on both sides, and the
// last one not after a target is its match. A fifth of the instructions is left. TILED: targets are
// many.
template <typename W, int PLAIN, int TILED>
__global__ void __launch_bounds__(256, TILED ? TILED_BLOCKS : 1) asof_index(
    const void* __restrict__ src, const void* __restrict__ lengths,
    const void* __restrict__ offsets, const void* __restrict__ tgt, int* __restrict__ index,
    int64 S, int64 src_row, int64 src_step, int64 src_width, int64 lengths_width,
    int64 offsets_width, int64 items, int64 T, int64 tgt_row, int64 tgt_step, int64 tgt_width,
    int64 direction, int64 exact, W tolerance) {
    wait_for_stream();
    typedef typename Count<PLAIN>::type N;
    typedef typename StampOf<W, PLAIN>::type Key;
    if constexpr (TILED) {
        match_tiles<W>((const Key*)src, (const Key*)tgt, index, S, src_row, items, T, tgt_row,
                       tolerance);
    } else {
        if (PLAIN > 1) {
            lengths = offsets = nullptr;
            src_width = tgt_width = PLAIN;
            src_step = tgt_step = 1;
            direction = BACKWARD;
            exact = 1;
            __builtin_assume(src != nullptr && S < (1 << 30));
        }
        const N stride = (N)gridDim.x * blockDim.x;
        for (N item = (N)blockIdx.x * blockDim.x + threadIdx.x; item < (N)items; item += stride) {
            const N b = row_of_target(item, (N)T), t = item - b * (N)T;
            Row<W> keys = row_of<W>(b, S, src, nullptr, lengths, offsets, nullptr, src_row, src_step,
                                    src_width, lengths_width, offsets_width, 8, 0, 0, 0.0, 1.0);
            keys.narrow = tgt_width == src_width;
            const W q = load<W>(tgt, tgt_width, b * tgt_row + t * tgt_step);
            int64 match = -1;
            if (keys.n > 0 && !is_nan(q)) {
                int64 after;
                if constexpr (PLAIN > 1)
                    after = keys.template guessed_upper_bound<Key>((Key)q);
                else
                    after = keys.upper_bound(q);
                int64 before = after - 1;
                bool hit = before >= 0 && keys.at(before) == q;
                if (hit && (!exact || direction == FORWARD)) {
                    const int64 first = keys.first_at(after, q);
                    if (exact) before = first;
                    else before = first - 1;
                }
                if (hit && exact) {
                    match = before;
                } else {
                    bool ahead = false;
                    const bool behind = direction != FORWARD && before >= 0;
                    decltype(elapsed(q, q)) since = 0, until = 0;
                    if (behind) since = elapsed(q, keys.at(before));
                    if (direction != BACKWARD && after < keys.n) {
                        const W key = keys.at(after);
                        ahead = !is_nan(key);
                        until = elapsed(key, q);
                    }
                    if (behind && ahead) ahead = until < since;  // a tie goes backward
                    if (ahead) {
                        if (within(until, tolerance)) match = after;
                    } else if (behind && within(since, tolerance)) {
                        match = before;
                    }
                }
            }
            index[item] = (int)match;
        }
    }
}
