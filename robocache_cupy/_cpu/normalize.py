"""The definition of cuda_src/normalize.cu."""

import numpy as np
from numba.extending import overload

from . import DType, computes_double, inline, narrow, njit, row, widen


def statistics(table, columns, X, Y):
    """The table [5, columns], of the type that is computed with."""
    raise NotImplementedError


@overload(statistics)
def _statistics(table, columns, X, Y):
    C = DType("float64" if computes_double(X.dtype, Y.dtype) else "float32")

    def implementation(table, columns, X, Y):
        return row(table, 0, 5 * columns, C)

    return implementation


@inline
def normalised(x, shift, scale, offset, low, high):
    y = (x - shift) * scale + offset
    return low if y < low else high if y > high else y


_WIDTH = 64  # columns that the innermost loop runs over, at least: it is vectorised


@njit
def affine(
    x, table, out, items, columns, run, aligned, tiles, own, across, line, depth, lo, hi, X, Y
):  # fmt: skip
    rows = statistics(table, columns, X, Y)
    i = lo
    while run > 1 and i < hi:  # one column for the whole of the innermost loop
        before = i // run
        column = before % columns
        n = min((before + 1) * run, hi) - i
        u, y = row(x, i, n, X), row(out, i, n, Y)
        shift, scale = rows[column], rows[columns + column]
        offset = rows[2 * columns + column]
        low, high = rows[3 * columns + column], rows[4 * columns + column]
        for k in range(n):
            y[k] = narrow(normalised(widen(u[k], X, Y), shift, scale, offset, low, high), Y)
        i += n
    width = columns
    if columns < _WIDTH and hi - i > 4 * _WIDTH:  # the same columns over and over
        width = (_WIDTH + columns - 1) // columns * columns
        repeated = np.empty(5 * width, rows.dtype)
        for k in range(5 * width):
            repeated[k] = rows[k // width * columns + k % width % columns]
        rows = repeated
    while i < hi:
        first = i % columns
        n = min(width - first, hi - i)
        u, y = row(x, i, n, X), row(out, i, n, Y)
        shift, scale = rows[first : first + n], rows[width + first : width + first + n]
        offset = rows[2 * width + first : 2 * width + first + n]
        low = rows[3 * width + first : 3 * width + first + n]
        high = rows[4 * width + first : 4 * width + first + n]
        for k in range(n):
            y[k] = narrow(
                normalised(widen(u[k], X, Y), shift[k], scale[k], offset[k], low[k], high[k]), Y
            )
        i += n
