// Windows of packed episodes. What the kernel computes is defined by the function of the same name in
// robocache_cupy/_cpu/windows.py; the table's fields are those of _core/table.py.

#include "common.cuh"
#include "windows.table"
#include "episode.cuh"
#include "part.cuh"

// Of `len` numbers that ascend, how many are not above q, where that is about `guess`. A few loads
// round the guess go first, and then rounds of eight ways; the loads of a round do not wait for one
// another (one by one, 10,000 episodes cost 16 us).
template <typename T>
__device__ __forceinline__ int count_until(int64 q, const T* at, int len, int guess) {
    constexpr int ways = 8;
    const int reach[ways - 1] = {-128, -16, -2, 0, 2, 16, 128};
    int lo = 0, hi = len;
    if (len > 16) {
        T near[ways - 1];
#pragma unroll
        for (int k = 0; k < ways - 1; ++k)
            near[k] = __ldg(at + min(max(guess + reach[k], 0), len - 1));
#pragma unroll
        for (int k = 0; k < ways - 1; ++k) {
            const int i = min(max(guess + reach[k], 0), len - 1);
            if (!is_nan(near[k]) && near[k] <= q) lo = max(lo, i + 1);
            else hi = min(hi, i);
        }
    }
    while (lo < hi) {
        const int stride = (hi - lo) / ways + 1;
        T pivots[ways - 1];
#pragma unroll
        for (int k = 1; k < ways; ++k) pivots[k - 1] = __ldg(at + min(lo + k * stride, hi) - 1);
        int below = 0;
#pragma unroll
        for (int k = 1; k < ways; ++k)
            below += lo + k * stride <= hi && !is_nan(pivots[k - 1]) && pivots[k - 1] <= q;
        lo += below * stride;
        hi = min(hi, lo + stride - 1);
    }
    return lo;
}

// One less than of streams where samples are blended, and two on an A100: the search of the episode
// takes registers too.
constexpr int windows_at_once(int of, int code, int plain) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    const int fewer = plain == 2 ? 0 : plain == 1 ? 2 : 1;
#else
    const int fewer = plain == 2 ? 0 : 1;
#endif
    return blocks_at_once(of, code, plain) > fewer ? blocks_at_once(of, code, plain) - fewer : 1;
}

// Targets of a block: as many as leave shared memory for their anchors.
constexpr int most_windows(int of) { return of == EVERYTHING ? MOST_TARGETS / 2 : MOST_TARGETS; }

// What the windows of one anchor share: its row, its time and its episode.
template <typename W> struct Anchor {
    int64 row, first, n;
    W start;
};

// PLAIN > 1 is what most calls are: 2 by index; 4 or 8 by time, linear, held at the ends, with no
// limits, and stamps of so many bytes that follow one another.
template <int PLAIN, typename W, int SIZE>
__device__ __forceinline__ Anchor<W> anchor_of(const WindowsTable<W, SIZE>& table,
                                               const Stream<W>& stream, int64 a) {
    const Windows<W>& header = table.header;
    const void* const offsets = table.at[stream.offsets];
    const int64 offsets_width = stream.flags & NARROW_OFFSETS ? 4 : 8;
    const void* const stamps = PLAIN == 2 ? nullptr : table.at[stream.times];
    const int64 episodes = stream.src_row_or_episodes, size = stream.samples;
    Anchor<W> anchor{};
    if (header.anchors)
        anchor.row = load<int64>(table.at[header.anchors], header.narrow_anchors ? 4 : 8, a);
    no_time(anchor.start);
    if (stamps) {
        if (header.anchor_times)
            anchor.start = load<W>(table.at[header.anchor_times],
                                   header.narrow_anchor_times ? 4 : 8, a);
        else if (anchor.row >= 0 && anchor.row < size)
            anchor.start = load<W>(stamps, PLAIN > 2 ? PLAIN : stream.flags & NARROW_TIMES ? 4 : 8,
                                   anchor.row * (PLAIN > 2 ? 1 : stream.src_step));
    }
    int64 episode;
    if (header.episodes) {
        episode = load<int64>(table.at[header.episodes], header.narrow_episodes ? 4 : 8, a);
    } else {
        const int len = (int)episodes;
        const float about = (float)anchor.row / (float)size * (float)len;
        const int guess = about > 0 ? (about < (float)len ? (int)about : len) : 0;
        episode = (offsets_width == 8
                       ? count_until(anchor.row, (const int64*)offsets, len, guess)
                       : count_until(anchor.row, (const int*)offsets, len, guess)) -
                  1;
    }
    if (episode >= 0 && episode < episodes) {
        anchor.first = clamp(load<int64>(offsets, offsets_width, episode), 0, size);
        anchor.n = clamp(load<int64>(offsets, offsets_width, episode + 1) - anchor.first, 0,
                         size - anchor.first);
    }
    return anchor;
}

// Most windows by index lie in their episode, so their samples are asked for before it is found; not
// where a block writes but parts of windows, or more than the cache keeps for it.
constexpr int MOST_FETCHED = 1 << 17;  // bytes

template <typename W, int SIZE>
__device__ __forceinline__ void fetch_windows(const WindowsTable<W, SIZE>& table,
                                              const Stream<W>& stream, const Part<W>& part,
                                              int64 a0, int anchors, int n) {
    const Windows<W>& header = table.header;
    const int64* const deltas = (const int64*)table.at[stream.deltas];
    const int64 from = __ldg(deltas), rows = __ldg(deltas + stream.targets - 1) - from + 1;
    const int64 row_bytes = part.data_step * size_of(part.x), bytes = rows * row_bytes;
    if (rows <= 0 || anchors * rows > 2 * n || row_bytes <= 0 || anchors * bytes > MOST_FETCHED)
        return;
    const int lines = (int)(bytes / LINE_BYTES) + 1;
    for (int i = threadIdx.x; i < anchors * lines; i += blockDim.x) {
        const int a = i / lines;
        const int64 row = load<int64>(table.at[header.anchors], header.narrow_anchors ? 4 : 8,
                                      a0 + a) + from;
        if (row >= 0 && row <= stream.samples - rows)
            fetch_line((const char*)table.at[part.data] + row * row_bytes +
                       min((int64)(i - a * lines) * LINE_BYTES, bytes - 1));
    }
}

//   anchors a0 a1 a2 ...   deltas d0 d1 ... of each key
//      │
//   1. ├─ episode [from, to) of the anchor, by a search of the offsets: a thread to an anchor
//   2. └─ window k: sample a + dk, or the time of the anchor + dk and a search of the episode's clock
//   3. all threads move the rows
//
// Windows are written as the streams of fuse.cu are: a block takes a tile of one key. A search for
// each element of a window would be most of all instructions.
template <typename W, int SIZE, int LEVEL, int CLASS, int CODE, int PLAIN>
__global__ void __launch_bounds__(256, windows_at_once(CLASS, CODE, PLAIN))
    windows(const __grid_constant__ WindowsTable<W, SIZE> table) {
    wait_for_stream();
    typedef typename Only<CODE>::C C;
    __shared__ Place<CLASS, C> places[most_windows(CLASS)];
    __shared__ Anchor<W> anchors[most_windows(CLASS)];
    __shared__ int64 constants[5];
    __shared__ int special;  // a target that is a constant, in this tile
    const Windows<W>& header = table.header;
    for (int64 block = blockIdx.x; block < header.blocks; block += gridDim.x) {
        int s = 0, first_part = 0;
        while (s + 1 < header.streams && block >= table.streams[s + 1].first_block)
            first_part += table.streams[s++].parts;
        const Stream<W>& stream = table.streams[s];
        const int64 T = stream.targets, items = header.anchors_count * T;
        const int tile = stream.tiles_of_8 * 8;
        const int64 begin = (block - stream.first_block) * tile;
        const int n = (int)(items - begin < tile ? items - begin : tile);
        const void* const stamps = PLAIN == 2 ? nullptr : table.at[stream.times];
        if (PLAIN > 2) __builtin_assume(stamps != nullptr);
        bool* const padding = (bool*)table.at[stream.valid];
        const int64 a0 = row_of_target(begin, T), a1 = row_of_target(begin + n - 1, T);
        if (PLAIN == 2)
            fetch_windows(table, stream, table.parts[first_part], a0, (int)(a1 - a0) + 1, n);
        for (int i = threadIdx.x; i <= (int)(a1 - a0); i += blockDim.x)
            anchors[i] = anchor_of<PLAIN>(table, stream, a0 + i);
        __syncthreads();
        for (int p = 0; p < stream.parts; ++p) {
            const Part<W>& part = table.parts[first_part + p];
            // Of one method, the parts of a key are made of the same samples.
            const bool known = p > 0 && part.method == table.parts[first_part + p - 1].method;
            if (!known && threadIdx.x == blockDim.x - 1) {  // a thread with few targets to find
                special = 0;
                constants[EMPTY] = 0;
                constants[NOT_A_NUMBER] = nan_bits(part.y);
                constants[AT_LEFT] = table.constants[part.left_value];
                constants[AT_RIGHT] = table.constants[part.right_value];
                constants[FILLED] = table.constants[part.fill_value];
            }
            if (PLAIN) __syncthreads();
            for (int i = known ? n : threadIdx.x; i < n; i += blockDim.x) {
                typedef typename Count<PLAIN>::type N;
                const N item = (N)begin + i, a = row_of_target(item, (N)T), k = item - a * (N)T;
                const Anchor<W>& anchor = anchors[a - a0];
                Row<W> row{};
                row.first = anchor.first;
                row.n = anchor.n;
                Place<CLASS, C>& place = places[i];
                Found<C>& found = place.found;
                found.y = (int64)item * part.out_step;
                bool ok;
                if (!stamps) {
                    const int64 j =
                        anchor.row + ((const int64*)table.at[stream.deltas])[k] - row.first;
                    ok = j >= 0 && j < row.n;
                    found.w = 0;
                    found.code = part.fill && !ok ? (int)FILLED : row.n == 0 ? (int)EMPTY : -1;
                    found.x0 = 0;
                    if (found.code < 0) {
                        const int64 at = stream.flags & REFLECT ? mirrored_index(j, row.n)
                                                                : clamp(j, 0, row.n - 1);
                        found.x0 = (row.first + at) * part.data_step;
                    }
                    found.x1 = found.x0;
                    if constexpr (has_reductions(CLASS)) place.several.n = 0;
                } else {
                    row.stamps = stamps;
                    row.offset = row.first * (PLAIN > 1 ? 1 : stream.src_step);
                    row.step = PLAIN > 1 ? 1 : stream.src_step;
                    row.width = PLAIN > 1 ? PLAIN : stream.flags & NARROW_TIMES ? 4 : 8;
                    row.latency = PLAIN > 1 ? (W)0 : stream.latency;
                    if (!PLAIN && stream.latencies)
                        from_seconds(load<double>(table.at[stream.latencies],
                                                  stream.flags & NARROW_LATENCIES ? 4 : 8, a),
                                     header.ticks, row.latency);
                    const W* const deltas = (const W*)table.at[stream.deltas];
                    const W q = plus(anchor.start, deltas[k]);
                    W before, after;
                    no_time(before);
                    no_time(after);
                    if (has_reductions(CLASS) && part.method >= MEAN) {
                        if (k > 0) before = plus(anchor.start, deltas[k - 1]);
                        if ((int64)k + 1 < T) after = plus(anchor.start, deltas[k + 1]);
                    }
                    int64 index;
                    ok = locate_part<CLASS, CODE, PLAIN, PLAIN == 8>(
                        stream, part, row, before, q, after, true, row.first * part.data_step,
                        place, index);
                }
                if (PLAIN && found.code >= 0) special = 1;
                bool* const at = padding ? padding + item : nullptr;
                if (at) *at = !ok || (p > 0 && *at);
                if constexpr (has_rotations(CLASS)) place.mark = {at, true};
            }
            __syncthreads();
            write_part<CLASS, CODE, PLAIN>(part, table.at[part.data], (void*)table.at[part.out],
                                           table.at[part.affine], constants, places, begin, n,
                                           special);
            __syncthreads();
        }
    }
}
