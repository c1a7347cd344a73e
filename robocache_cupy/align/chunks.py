"""Streams at the times of a clock: several at a time where all of them fit, else one in pieces.

A piece is as many targets as fit `BYTES` with the samples around them. Only those are read: the
samples from those that the first target of the piece looks at to those of the last. One more at
each end leaves the op's choices the same as with the whole stream.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import logs
from ..fuse import Stream as Source
from ..fuse import fuse_multimodal
from ..logs import Stream
from ..logs.stream import one_line
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
    times: NDArray[np.int64]  #: their stamps


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
        most = max(1, BYTES // _row_bytes(self.stream, self.stream.dtype))
        start = 0
        while start < len(places):
            stop = int(np.searchsorted(places, places[start] + most))
            block = self.stream.read(int(places[start]), int(places[stop - 1]) + 1)
            values[order[start:stop]] = block[places[start:stop] - places[start]]
            start = stop
        return values

    def pieces(self, clock: NDArray[np.int64], method: Method) -> Iterator[Piece]:
        """The targets from first to last, with the samples that each piece needs."""
        margin = method.reach + 1
        most_samples = max(2 * margin + 4, BYTES // _sample_bytes(self.stream, method))
        most_targets = max(1, BYTES // _row_bytes(self.stream, method.dtype))
        starts, ends = _shares(clock) if method.reduces else (clock, clock)
        first = 0
        while first < len(clock):
            after = int(np.searchsorted(self.effective, starts[first], "right"))
            lo = max(0, after - margin)
            stop = min(len(clock), first + most_targets)
            if lo + most_samples < len(self.effective):
                end = self.effective[lo + most_samples - margin - 1]
                stop = min(stop, max(first + 1, int(np.searchsorted(ends, end, "right"))))
            hi = int(np.searchsorted(self.effective, ends[stop - 1], "right")) + margin
            samples = slice(lo, min(hi, len(self.effective)))
            values = self.read(samples.start, samples.stop)
            yield Piece(slice(first, stop), samples, values, self.times[samples])
            first = stop


def _shares(clock: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Between which times the samples are that a reduction makes each target of."""
    half = np.diff(clock) // 2 + 1
    return clock - np.append(half[:1], half), clock + np.append(half, half[-1:])


def _row_bytes(stream: Stream, dtype: np.dtype[Any]) -> int:
    return max(1, math.prod(stream.shape[1:]) * dtype.itemsize)


def _sample_bytes(stream: Stream, method: Method) -> int:
    """Of a sample as it is read, or as it is computed with."""
    return max(_row_bytes(stream, stream.dtype), _row_bytes(stream, method.dtype))


def together(
    streams: Mapping[str, Stream], methods: Mapping[str, Method], targets: int
) -> Iterator[list[str]]:
    """The streams in their order: those that fit `BYTES` with all their samples go together."""
    group: list[str] = []
    samples = results = 0
    for name, stream in streams.items():
        more = len(stream) * _sample_bytes(stream, methods[name])
        made = targets * _row_bytes(stream, methods[name].dtype)
        if group and (samples + more > BYTES or results + made > BYTES):
            yield group
            group, samples, results = [], 0, 0
        group.append(name)
        samples, results = samples + more, results + made
    if group:
        yield group


class Aligned(NamedTuple):
    """The result for the targets of a piece."""

    values: NDArray[Any]  #: (targets, *F)
    valid: NDArray[np.bool_]
    taken: NDArray[np.int64] | None  #: when the sample was taken that it is, or begins at


class Part(NamedTuple):
    """A piece of a stream, and how to align it."""

    stream: Stream
    method: Method
    piece: Piece
    which: bool  #: the samples taken are asked for as well


def align_pieces(
    parts: Sequence[Part],
    clock: NDArray[np.int64],
    device: Device,
    *,
    max_gap: float | None = None,
) -> list[Aligned]:
    """Pieces of several streams at the same targets of a clock, in one call."""
    at = parts[0].piece.targets
    # What a reduction makes of a target depends on those beside it.
    wanted = slice(max(0, at.start - 1), at.stop + 1) if parts[0].method.reduces else at
    sources: dict[Any, Source] = {}
    for stream, method, piece, which in parts:
        # Flat, because samples of two or more axes could be taken for a batch of trajectories.
        flat = piece.values.reshape(len(piece.values), math.prod(stream.shape[1:]))
        if method.order is not None:
            flat = flat[:, method.order]
        times = device.put(piece.times)
        sources[stream.name] = Source(
            device.put(flat.astype(method.dtype, copy=False)),
            times,
            latency=stream.latency,
            max_gap=max_gap,
            **method.spec,
        )
        if which:
            chosen = method.parts[0].method if method.steps else "previous"
            sources[stream.name, "taken"] = Source(
                times[:, None], times, method=chosen, latency=stream.latency
            )
    made = fuse_multimodal(
        sources,
        tgt_times=device.put(clock[wanted]),
        layout="dict",
        return_valid=True,
        backend=device.backend,
    )
    kept = slice(at.start - wanted.start, at.stop - wanted.start)
    aligned = []
    for stream, method, _, which in parts:
        values = device.get(made.values[stream.name])[kept]
        if (order := method.order) is not None:
            flat, values = values, np.empty_like(values)
            values[:, order] = flat
        aligned.append(
            Aligned(
                values.reshape(len(values), *stream.shape[1:]),
                device.get(made.valid[stream.name])[kept],
                device.get(made.values[stream.name, "taken"])[kept, 0] - late(stream)
                if which
                else None,
            )
        )
    return aligned
