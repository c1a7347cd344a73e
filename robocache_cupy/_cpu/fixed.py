"""The definition of cuda_src/fixed.cuh: sums whose terms may come in any order."""

import numpy as np

from . import _bits_of_double, _double_of_bits, inline

ZEROS, NOT_FINITE = -5000, 5000  # no exponents


@inline
def exponent_of(x):
    """The power of two that is greater than a number."""
    bits = _bits_of_double(x) & np.uint64(0x7FFFFFFFFFFFFFFF)
    if bits == 0:
        return ZEROS
    exponent = np.int64(bits >> np.uint64(52))
    return NOT_FINITE if exponent == 2047 else exponent - 1022


@inline
def power_of_two(exponent):
    return _double_of_bits(np.uint64(exponent + 1023) << np.uint64(52))


@inline
def scaled(x, exponent):
    """x * 2^exponent, whose power of two may be none that a double holds."""
    half = exponent // 2 if exponent >= 0 else -(-exponent // 2)
    return x * power_of_two(half) * power_of_two(exponent - half)


@inline
def scale_of(count, exponent):
    """`count` terms below 2^exponent then have a sum below 2^62."""
    bits = np.int64(0)
    if count > 0:  # those of the number are in the exponent of the double, which is exact
        bits = np.int64(_bits_of_double(np.float64(count)) >> np.uint64(52)) - 1022
    return 62 - bits - exponent
