"""A stream at the times of a clock, a piece at a time.

A piece is as many targets as fit `BYTES` with the samples around them. Only those are read: the
samples from the one before the first target of the piece to the one behind the last. One more at
each end leaves the op's choices the same as with the whole stream.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import logs
from ..logs import Stream
from ..logs.stream import one_line
from ..resample import resample_trajectories
from .clock import late
from .error import CommandError
from .methods import Method

BYTES = 64 << 20  # of samples, and of results; at least a few rows of each


class Device(NamedTuple):
    """Where to compute."""

    name: str
    backend: str
    put: Callable[[Any], Any]
    get: Callable[[Any], Any]


def device_of(backend: str) -> Device:
    """The GPU where there are one and CuPy, unless `backend` says otherwise."""
    if backend != "numba":
        try:
            cupy = import_module("cupy")
        except ImportError as error:
            if backend == "cuda":
                raise CommandError(
                    f"--backend cuda needs CuPy ({one_line(error)}): "
                    "pip install 'robocache-cupy[cuda12]'"
                ) from error
        else:
            if cupy.cuda.is_available():
                name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
                return Device(f"cuda on {name.decode()}", "cuda", cupy.asarray, cupy.asnumpy)
            if backend == "cuda":
                raise CommandError("--backend cuda needs a GPU, and CuPy finds none")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Device(f"numba on {cores} cores", "numba", np.asarray, np.asarray)


class Piece(NamedTuple):
    """Some targets, and the samples around them."""

    targets: slice  #: of the clock
    samples: slice  #: of the samples in order of time
    values: NDArray[Any]  #: of these samples


class Sorted:
    """The samples of a stream in order of time, the last of those with the same stamp."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._keep = logs.clean(stream.times)
        self.times = stream.times[self._keep]  #: as in the log
        self.effective = self.times - late(stream)  #: when the samples were taken

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Samples lo to hi."""
        if isinstance(self._keep, slice):
            return self.stream.read(lo, hi)
        index = self._keep[lo:hi]
        values = np.empty((len(index), *self.stream.shape[1:]), self.stream.dtype)
        # Where the stamps jump, the samples may lie all over the file: one stretch at a time.
        order = np.argsort(index)
        places = index[order]
        most = max(1, _rows(self.stream))
        start = 0
        while start < len(places):
            stop = int(np.searchsorted(places, places[start] + most))
            block = self.stream.read(int(places[start]), int(places[stop - 1]) + 1)
            values[order[start:stop]] = block[places[start:stop] - places[start]]
            start = stop
        return values

    def pieces(self, clock: NDArray[np.int64], row_bytes: int) -> Iterator[Piece]:
        """The targets from first to last, with the samples that each piece needs."""
        most_samples = max(8, _rows(self.stream))
        most_targets = max(1, BYTES // max(1, row_bytes))
        first = 0
        while first < len(clock):
            after = int(np.searchsorted(self.effective, clock[first], "right"))
            lo = max(0, after - 2)
            stop = min(len(clock), first + most_targets)
            if lo + most_samples < len(self.effective):
                end = self.effective[lo + most_samples - 3]
                stop = min(stop, max(first + 1, int(np.searchsorted(clock, end, "right"))))
            hi = int(np.searchsorted(self.effective, clock[stop - 1], "right")) + 2
            samples = slice(lo, min(hi, len(self.effective)))
            yield Piece(slice(first, stop), samples, self.read(samples.start, samples.stop))
            first = stop


def _rows(stream: Stream) -> int:
    """How many samples fit."""
    return BYTES // max(1, math.prod(stream.shape[1:]) * stream.dtype.itemsize)


class Aligned(NamedTuple):
    """The result for the targets of a piece."""

    values: NDArray[Any]  #: (targets, *F)
    valid: NDArray[np.bool_]
    taken: NDArray[np.int32] | None  #: which sample, among those of the piece


def align_piece(
    stream: Stream,
    method: Method,
    times: NDArray[np.int64],
    values: NDArray[Any],
    targets: NDArray[np.int64],
    device: Device,
    *,
    max_gap: float | None = None,
    which: bool = False,
) -> Aligned:
    """Samples `values` with the stamps `times` at `targets`."""
    # Flat, because samples of two or more axes could be taken for a batch of trajectories.
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    aligned = np.empty((len(targets), flat.shape[1]), method.dtype)
    valid, taken = np.ones(len(targets), np.bool_), None
    for part in method.parts:
        result = resample_trajectories(
            device.put(flat[:, part.columns]),
            device.put(times),
            device.put(targets),
            method=part.method,
            latency=stream.latency,
            max_gap=max_gap,
            dtype=method.dtype.name,
            return_valid=True,
            return_index=which,
            backend=device.backend,
        )
        aligned[:, part.columns] = device.get(result.values)
        valid &= device.get(result.valid)
        taken = device.get(result.index) if which else None
    return Aligned(aligned.reshape(len(targets), *values.shape[1:]), valid, taken)
