"""The definition of cuda_src/ordered.cuh: which of two numbers is the greater."""

import numpy as np
from numba.extending import overload

from . import narrow, widen


def before(x, y, X):
    """Whether a number is less than another: -0 is less than 0, and NaN greater than all."""
    raise NotImplementedError


@overload(before)
def _before(x, y, X):
    if not X.dtype.startswith(("float", "bfloat")):
        return lambda x, y, X: x < y

    def implementation(x, y, X):
        a, b = widen(x, X, X), widen(y, X, X)
        if a != a:
            return False
        return a < b or b != b or (a == 0 and b == 0 and np.signbit(a) and not np.signbit(b))

    return implementation


def is_nan(x, X):
    raise NotImplementedError


@overload(is_nan)
def _is_nan(x, X):
    if not X.dtype.startswith(("float", "bfloat")):
        return lambda x, X: False

    def implementation(x, X):
        a = widen(x, X, X)
        return a != a

    return implementation


def nan_of(X):
    raise NotImplementedError


@overload(nan_of)
def _nan_of(X):
    if not X.dtype.startswith(("float", "bfloat")):
        return lambda X: 0
    return lambda X: narrow(np.nan, X)
