// The matching of keys. What each kernel computes is defined by the function of the same name and
// parameters in robocache_cupy/_cpu/asof.py.

#include "time.cuh"

enum Direction { BACKWARD, FORWARD, NEAREST };

// PLAIN > 1: all rows have S keys, keys lie one after another, in PLAIN bytes on both sides, and the
// last one not after a target is its match. A fifth of the instructions is left.
template <typename W, int PLAIN>
__global__ void __launch_bounds__(256) asof_index(
    const void* __restrict__ src, const void* __restrict__ lengths,
    const void* __restrict__ offsets, const void* __restrict__ tgt, int* __restrict__ index,
    int64 S, int64 src_row, int64 src_step, int64 src_width, int64 lengths_width,
    int64 offsets_width, int64 items, int64 T, int64 tgt_row, int64 tgt_step, int64 tgt_width,
    int64 direction, int64 exact, W tolerance) {
    typedef typename Count<PLAIN>::type N;
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
            const int64 after = keys.upper_bound(q);
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
