"""The definition of cuda_src/normalize.cu."""

import numpy as np
from numba.extending import overload

from . import DType, computes_double, inline, narrow, njit, row, widen


def statistics(table, period, X, Y):
    """The table [5, period], of the type that is computed with."""
    raise NotImplementedError


@overload(statistics)
def _statistics(table, period, X, Y):
    C = DType("float64" if computes_double(X.dtype, Y.dtype) else "float32")

    def implementation(table, period, X, Y):
        return row(table, 0, 5 * period, C)

    return implementation


@inline
def normalised(x, shift, scale, offset, low, high):
    y = (x - shift) * scale + offset
    return low if y < low else high if y > high else y


_WIDTH = 64  # columns that the innermost loop runs over, at least: it is vectorised


@njit
def affine(x, table, out, items, period, aligned, lo, hi, X, Y):
    columns = statistics(table, period, X, Y)
    width = period
    if period < _WIDTH and hi - lo > 4 * _WIDTH:  # the same columns over and over
        width = (_WIDTH + period - 1) // period * period
        repeated = np.empty(5 * width, columns.dtype)
        for k in range(5 * width):
            repeated[k] = columns[k // width * period + k % width % period]
        columns = repeated
    i = lo
    while i < hi:
        first = i % period
        n = min(width - first, hi - i)
        u, y = row(x, i, n, X), row(out, i, n, Y)
        shift, scale = columns[first : first + n], columns[width + first : width + first + n]
        offset = columns[2 * width + first : 2 * width + first + n]
        low = columns[3 * width + first : 3 * width + first + n]
        high = columns[4 * width + first : 4 * width + first + n]
        for k in range(n):
            y[k] = narrow(
                normalised(widen(u[k], X, Y), shift[k], scale[k], offset[k], low[k], high[k]), Y
            )
        i += n
