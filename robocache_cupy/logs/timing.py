"""What the stamps of a stream are like, and how to put them in order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..timing import describe, stamps_of


class Timing(NamedTuple):
    """What `timing` finds. Figures that need two different stamps are NaN without them.

    Examples
    --------
    >>> import numpy as np
    >>> timing(np.array([0, 5, 10]) * 1_000_000).samples
    3
    """

    samples: int  #: stamps that are NaT included
    rate: float  #: Hz
    jitter_p50: float  #: ms
    jitter_p99: float  #: ms
    longest_gap: float  #: ms
    duplicates: int  #: stamps equal to another before them
    backward_steps: int  #: stamps earlier than the one before them


def timing(times: NDArray[np.int64]) -> Timing:
    """Describe the clock of a stream, in the terms of `robocache_cupy.timing.timing_report`.

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
    (stamps,), clock = stamps_of(None, times=times)
    found = describe(stamps, clock)
    return Timing(*(getattr(found, field) for field in Timing._fields))


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
