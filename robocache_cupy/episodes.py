"""Which samples of a packed data set belong together: windows and goals, as indices.

Made once, before training, on the host. The indices are NumPy; hand them to the framework that
gathers with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core.array import HostArray, as_numpy

__all__ = ["relabel_goals", "window_index"]


def window_index(
    episode_lengths: HostArray, seq_length: int, pad_before: int = 0, pad_after: int = 0
) -> NDArray[np.int64]:
    """Every window of a data set of episodes, packed one after another.

    A window is `seq_length` samples of one episode. It may begin up to `pad_before` samples before
    the episode and end up to `pad_after` behind it; what it lacks there is padding, for which the
    first or last sample is usually repeated.

    Parameters
    ----------
    episode_lengths : integers [E]
        The number of samples of each episode. An episode without any has no windows.
    seq_length : int
        The length of a window, 1 or more.
    pad_before, pad_after : int
        How many samples a window may lack; brought into [0, seq_length - 1], so that each has at
        least one.

    Returns
    -------
    int64 array [n, 4]
        ``(buffer_start, buffer_end, sample_start, sample_end)`` of each window: samples
        ``buffer_start:buffer_end`` of the packed data belong at ``sample_start:sample_end`` of
        the window.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The windows of ``create_indices`` of Diffusion Policy (``common/sampler.py``), in its order.

    Examples
    --------
    Windows of three in episodes of four and two samples, which may lack one at their end:

    >>> window_index([4, 2], 3, pad_after=1)
    array([[0, 3, 0, 3],
           [1, 4, 0, 3],
           [2, 4, 0, 2],
           [4, 6, 0, 2]])
    """
    lengths = integers("episode_lengths", episode_lengths)
    if lengths.size and lengths.min() < 0:
        raise ValueError(f"episode_lengths holds {lengths.min()}, expected 0 or more samples")
    seq_length = _whole("seq_length", seq_length, least=1)
    before = min(max(_whole("pad_before", pad_before), 0), seq_length - 1)
    after = min(max(_whole("pad_after", pad_after), 0), seq_length - 1)

    windows = np.maximum(lengths + (before + after + 1 - seq_length), 0)
    windows[lengths == 0] = 0
    episode = np.repeat(np.arange(len(lengths)), windows)
    nth = np.arange(len(episode)) - (np.cumsum(windows) - windows)[episode]
    start = nth - before  # within the episode
    stop = np.minimum(start + seq_length, lengths[episode])
    first = (np.cumsum(lengths) - lengths)[episode]
    inside = np.maximum(start, 0)
    return np.stack([first + inside, first + stop, inside - start, stop - start], axis=1)


def relabel_goals(
    offsets: HostArray, key: int | np.random.Generator, max_goal_distance: int | None = None
) -> NDArray[np.int64]:
    """A goal for every sample: one that its episode reaches later, drawn at random.

    Parameters
    ----------
    offsets : integers [E + 1]
        Episode e is the samples ``offsets[e]:offsets[e + 1]`` of the packed data.
    key : int or numpy.random.Generator
        The seed: the same one gives the same goals. A generator goes on from where it is.
    max_goal_distance : int, optional
        The most steps that a goal lies ahead, 1 or more; by default up to the end of the episode.

    Returns
    -------
    int64 array [N]
        The index, in the packed data, of the goal of each sample: uniform over the samples behind
        it within its episode and `max_goal_distance`. The last sample of an episode is its own
        goal.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The strategy ``uniform`` of Octo (``data/utils/goal_relabeling.py``), with goals strictly in
    the future: in Octo a sample may also be its own goal, and the distance stays below
    `max_goal_distance`.

    Examples
    --------
    >>> goals = relabel_goals([0, 4, 6], key=0, max_goal_distance=2)
    >>> goals - np.arange(6)  # the last samples of the episodes are 3 and 5
    array([2, 2, 1, 0, 1, 0])
    """
    bounds = row_bounds("offsets", offsets)
    if bounds.size and bounds[0] != 0:
        raise ValueError(f"offsets begins with {bounds[0]}, expected 0")
    step = np.arange(bounds[-1] if bounds.size else 0)
    last = np.repeat(bounds[1:] - 1, np.diff(bounds))
    nearest, furthest = np.minimum(step + 1, last), last
    if max_goal_distance is not None:
        most = _whole("max_goal_distance", max_goal_distance, least=1)
        furthest = np.minimum(last, step + min(most, len(step)))
    return np.random.default_rng(key).integers(nearest, furthest, endpoint=True)


def integers(name: str, x: Any) -> NDArray[np.int64]:
    """A list or array of integers, of one axis."""
    array = as_numpy(name, x)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one axis")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}, expected integers")
    return array.astype(np.int64)


def row_bounds(name: str, x: Any) -> NDArray[np.int64]:
    """Offsets of packed rows: they never fall."""
    bounds = integers(name, x)
    if bounds.size and bounds[0] < 0:
        raise ValueError(f"{name} begins with {bounds[0]}, expected 0 or more")
    if (falls := np.flatnonzero(np.diff(bounds) < 0)).size:
        here = falls[0]
        raise ValueError(
            f"{name}[{here + 1}] is {bounds[here + 1]}, expected no less than the "
            f"{bounds[here]} before it"
        )
    return bounds


def _whole(name: str, value: Any, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if least is not None and value < least:
        raise ValueError(f"{name} is {value}, expected {least} or more")
    return int(value)
