// Any number of streams on one clock. What each kernel computes is defined by the function of the
// same name in robocache_cupy/_cpu/fuse.py; the table's fields are those of _core/table.py.

#include "common.cuh"
#include "fuse.table"
#include "part.cuh"

template <int PLAIN, typename W, int SIZE>
__device__ __forceinline__ W target_time(const FuseTable<W, SIZE>& table, int64 b, int64 t) {
    const Fuse<W>& header = table.header;
    const int64 width = PLAIN > 1 ? PLAIN : header.narrow_targets ? 4 : 8;
    if (PLAIN || header.tgt_times)
        return load<W>(table.at[header.tgt_times], width, b * header.tgt_row + t * header.tgt_step);
    const W start = header.starts ? ((const W*)table.at[header.starts])[b] : header.t_start;
    return grid_point(start, t, header.hz, header.ticks, width);
}

//            targets of stream 0           of stream 1    ...
//   ─────┬─────────┬─────────┬─────   ──┬──────┬──────┬──
//        │ t t t t │                    │      │      │     a block takes a tile of one stream
//        └─┬─┬─┬─┬─┘
//   1. a thread finds the samples of each target, part after part (a part: columns with one method)
//   2. all threads move the part's columns to the stream's place in the result
//
// One search serves all columns of a part. Streams get blocks in proportion to the bytes they move,
// and all of them together make one wave: with more, searches are waited for one after another.
template <typename W, int SIZE, int LEVEL, int CLASS, int CODE, int PLAIN>
__global__ void __launch_bounds__(256, blocks_at_once(CLASS, CODE, PLAIN))
    fuse(const __grid_constant__ FuseTable<W, SIZE> table) {
    wait_for_stream();
    typedef typename Only<CODE>::C C;
    __shared__ Place<CLASS, C> places[MOST_TARGETS];
    __shared__ int64 constants[5];
    __shared__ int special;  // a target that is a constant, in this tile
    const Fuse<W>& header = table.header;
    for (int64 block = blockIdx.x; block < header.blocks; block += gridDim.x) {
        int s = 0, first_part = 0;
        while (s + 1 < header.streams && block >= table.streams[s + 1].first_block)
            first_part += table.streams[s++].parts;
        const Stream<W>& stream = table.streams[s];
        const int tile = stream.tiles_of_8 * 8;
        const int64 T = stream.targets, begin = (block - stream.first_block) * tile;
        const int n = (int)(header.items - begin < tile ? header.items - begin : tile);
        bool* const valid = PLAIN > 1 ? nullptr : (bool*)table.at[stream.valid];
        for (int p = 0; p < stream.parts; ++p) {
            const Part<W>& part = table.parts[first_part + p];
            // Of one method, the parts of a stream are made of the same samples.
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
                const N item = (N)begin + i, b = row_of_target(item, (N)T), t = item - b * (N)T;
                Row<W> row = stream_row<PLAIN>(table, stream, b, header.ticks);
                row.narrow = PLAIN > 1 ? PLAIN == 4
                                       : header.narrow_targets && (PLAIN || header.tgt_times) &&
                                             stream.flags & NARROW_TIMES && stream.latency == 0 &&
                                             (PLAIN || !stream.latencies);
                const W q = target_time<PLAIN>(table, b, t);
                int64 end = T;
                if (!PLAIN && header.tgt_lengths)
                    end = load<int64>(table.at[header.tgt_lengths],
                                      header.narrow_tgt_lengths ? 4 : 8, b);
                W before, after;
                no_time(before);
                no_time(after);
                if (has_reductions(CLASS) && part.method >= MEAN) {  // a grid has no end
                    const bool grid = !PLAIN && !header.tgt_times;
                    if (t > 0 || grid) before = target_time<PLAIN>(table, b, t - 1);
                    if (t + 1 < end || grid) after = target_time<PLAIN>(table, b, t + 1);
                }
                Place<CLASS, C>& place = places[i];
                place.found.y = (!PLAIN && header.out_row
                                     ? (int64)b * header.out_row + (int64)t * part.out_step
                                     : (int64)item * part.out_step) +
                                part.out_column;
                int64 index;
                const bool ok = locate_part<CLASS, CODE, PLAIN, (CLASS == TURNING)>(
                    stream, part, row, before, q, after, (int64)t < end,
                    (int64)b * part.data_row + row.first * part.data_step, place, index);
                if (PLAIN && place.found.code >= 0) special = 1;
                bool* const at = valid ? valid + (header.valid_step
                                                      ? item * header.valid_step +
                                                            header.first_stream + s
                                                      : item)
                                       : nullptr;
                if (at) *at = ok && (p == 0 || *at);
                if constexpr (has_rotations(CLASS)) place.mark = {at, false};
                if (!PLAIN && p == 0 && header.index) {
                    ((int*)table.at[header.index])[item] = (int)index;
                    if (is_wide(part.x) || is_wide(part.y))
                        ((double*)table.at[header.weight])[item] = place.found.w;
                    else
                        ((float*)table.at[header.weight])[item] = (float)place.found.w;
                }
                if (!PLAIN && p == 0 && header.times)
                    store_time((void*)table.at[header.times], header.narrow_targets ? 4 : 8, item,
                               q);
            }
            __syncthreads();
            write_part<CLASS, CODE, PLAIN>(part, table.at[part.data], (void*)table.at[part.out],
                                           table.at[part.affine], constants, places, begin, n,
                                           special);
            __syncthreads();
        }
    }
}

// Where the grid of each row begins: at the latest of the streams' first stamps, or at the earliest
// for a hull. found[0]: how many points the longest row has. One block: it ends in a read by the
// host, or is but one pass over the rows.
template <typename W, int SIZE>
__global__ void overlap(const __grid_constant__ FuseTable<W, SIZE> table) {
    wait_for_stream();
    __shared__ int64 points;
    const Fuse<W>& header = table.header;
    if (threadIdx.x == 0) points = 0;
    __syncthreads();
    for (int64 b = threadIdx.x; b < header.items; b += blockDim.x) {
        W start, end;
        no_time(start);
        no_time(end);
        if (header.chained) {  // more streams than a table holds
            start = ((const W*)table.at[header.starts])[b];
            end = ((const W*)table.at[header.ends])[b];
        }
        for (int s = 0; s < header.streams; ++s) {
            const Row<W> row = stream_row<0>(table, table.streams[s], b, header.ticks);
            int64 last = row.n;
            if (last > 0 && is_nan(row.at(last - 1))) last = row.real_samples();
            if (last == 0) continue;
            const W first_stamp = row.at(0), last_stamp = row.at(last - 1);
            if (is_nan(start) || (header.hull ? first_stamp < start : first_stamp > start))
                start = first_stamp;
            if (is_nan(end) || (header.hull ? last_stamp > end : last_stamp < end))
                end = last_stamp;
        }
        if (header.starts) ((W*)table.at[header.starts])[b] = start;
        if (header.ends) ((W*)table.at[header.ends])[b] = end;
        if (header.given_start) start = header.t_start;
        if (!is_nan(start) && end >= start) {
            const double span = (double)elapsed(end, start) * header.hz / header.ticks;
            atomicMax(&points, (int64)floor(span + 1e-6) + 1);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0 && header.found) *(int64*)table.at[header.found] = points;
}
