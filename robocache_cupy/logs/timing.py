"""What the stamps of a stream are like, and how to put them in order."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Timing(NamedTuple):
    """What `timing` finds. Figures that need two different stamps are NaN without them."""

    samples: int
    rate: float  #: Hz
    jitter_p50: float  #: ms
    jitter_p99: float  #: ms
    longest_gap: float  #: ms
    duplicates: int
    backward_steps: int


def timing(times: NDArray[np.int64]) -> Timing:
    """Describe the clock of a stream.

    Steps are the differences of neighbouring stamps once these are sorted, repeated stamps left
    out. The rate is that of the median step: the rate the sensor was set to, which lost samples
    and outages do not lower as they do the mean (that of ``rostopic hz``). The jitter is the
    absolute deviation of the steps from the median step.

    Parameters
    ----------
    times : int64 array of shape (n,)
        Stamps in ns, in the order of the file.

    Returns
    -------
    Timing
        Number of samples, rate (Hz), median and 99th percentile of the jitter (ms), longest gap
        (ms), number of stamps equal to another before them, number of stamps earlier than that
        right before them in the file.

    Examples
    --------
    >>> import numpy as np
    >>> clock = timing(np.array([0, 10, 20, 20, 30, 60]) * 1_000_000)
    >>> clock.rate, clock.longest_gap, clock.duplicates, clock.backward_steps
    (100.0, 30.0, 1, 0)
    """
    # Unsigned, because two int64 can lie more than 2^63 - 1 apart; sorted, so never negative.
    steps = np.diff(np.sort(times).view(np.uint64))
    moves = steps[steps > 0].astype(np.float64) / 1e6
    backward = int(np.count_nonzero(times[1:] < times[:-1]))
    if not moves.size:
        return Timing(len(times), math.nan, math.nan, math.nan, math.nan, int(steps.size), backward)
    median = float(np.median(moves))
    p50, p99 = np.percentile(np.abs(moves - median), [50, 99])
    return Timing(
        samples=len(times),
        rate=1e3 / median,
        jitter_p50=float(p50),
        jitter_p99=float(p99),
        longest_gap=float(moves.max()),
        duplicates=int(steps.size - moves.size),
        backward_steps=backward,
    )


def clean(times: NDArray[np.int64]) -> NDArray[np.intp] | slice:
    """Index that puts samples in strictly ascending order of time.

    The sort is stable, and of samples with the same stamp the last in the file is kept.

    Parameters
    ----------
    times : int64 array of shape (n,)
        Stamps in the order of the file.

    Returns
    -------
    index array or slice
        What to take of the stamps and of the samples. It is ``slice(None)``, which copies
        nothing, where all is in order already.

    Examples
    --------
    >>> import numpy as np
    >>> clean(np.array([10, 30, 20, 30]))
    array([0, 2, 3])
    >>> clean(np.array([10, 20, 30]))
    slice(None, None, None)
    """
    if np.all(times[1:] > times[:-1]):
        return slice(None)
    order = np.argsort(times, kind="stable")
    ascending = times[order]
    last = np.append(ascending[1:] != ascending[:-1], True)
    return order[last]
