"""The tables of _core/table.py as Numba records."""

import functools

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from .._core.table import CAPACITIES, PART, STREAM, Layout
from . import _double_of_bits, inline
from .time import DOUBLE, row_of


@intrinsic
def void(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), codegen


def reader(layout: Layout):
    """The function that gives a table's addresses, header, constants, streams and parts."""

    def read(table, W, SIZE):
        raise NotImplementedError

    @overload(read)
    def _read(table, W, SIZE):
        wide = W.dtype
        header, stream, part = (x.dtype(wide) for x in (layout.header, STREAM, PART))
        fields = [layout.dtype(wide, size).fields for size in range(len(CAPACITIES))]
        small, large = (tuple(f[n][1] for n in ("header", "constants", "streams", "parts"))
                        for f in fields)  # fmt: skip
        rooms = tuple((c.addresses, c.constants, c.streams, c.parts) for c in CAPACITIES)
        few, many = rooms

        def implementation(table, W, SIZE):
            place = small if SIZE == 0 else large
            room = few if SIZE == 0 else many
            return (
                numba.carray(void(table), room[0], np.int64),
                numba.carray(void(table + place[0]), 1, header),
                numba.carray(void(table + place[1]), room[1], np.int64),
                numba.carray(void(table + place[2]), room[2], stream),
                numba.carray(void(table + place[3]), room[3], part),
            )

        return implementation

    return functools.update_wrapper(read, read)


def bits_as(bits, W):
    raise NotImplementedError


@overload(bits_as)
def _bits_as(bits, W):
    if W.dtype == "int64":
        return lambda bits, W: bits
    return lambda bits, W: _double_of_bits(np.uint64(bits))


@inline
def stream_row(at, constants, s, b, ticks, W):
    """The samples of row b of a stream: as `row_of`."""
    flags = s.flags
    return row_of(
        0 if flags & 64 else b, s.samples, at[s.times], at[s.lengths], at[s.offsets],
        at[s.latencies],
        s.src_row_or_episodes, np.int64(s.src_step), 4 if flags & 1 else 8, 4 if flags & 2 else 8,
        4 if flags & 4 else 8, 4 if flags & 8 else 8, s.latency, bits_as(constants[s.uniform], W),
        bits_as(constants[s.uniform + 1], DOUBLE), ticks, at[s.order], W,
    )  # fmt: skip
