"""Tables: the parameters of a kernel over any number of streams, as one struct of a fixed size.

A table is an array of addresses, a header, and rows of several kinds. The fields of each are listed
once, here; the C structs and the Numba records are written from the list. Rows name an address, or
a constant, by its place in the table, so that streams can share them; place 0 is null.

A launch passes the table by value, in the 4,096 bytes that every CUDA driver takes.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .kernel import GENERATED

_LIMIT = 4096
_C = {"time": "W", "int64": "int64", "double": "double", "int": "int", "u8": "unsigned char"}
_FORMAT = {"int64": "q", "double": "d", "int": "i", "u8": "B"}
_NUMPY = {"int64": np.int64, "double": np.float64, "int": np.int32, "u8": np.uint8}


class Record(NamedTuple):
    """A struct: names of fields by their type, the widest types first."""

    name: str
    fields: Mapping[str, Sequence[str]]  # time (int64 or double, as the clock), int64, int, u8

    @property
    def names(self) -> list[str]:
        return [name for names in self.fields.values() for name in names]

    def format(self, wide: str) -> str:
        """The struct format of one, padded to 8 bytes."""
        codes = "".join(
            _FORMAT[wide if kind == "time" else kind] * len(names)
            for kind, names in self.fields.items()
        ).replace("float64", "d")
        return codes + "x" * (-struct.calcsize(f"<{codes}") % 8)

    def dtype(self, wide: str) -> np.dtype:
        """The same as a NumPy record, which Numba knows."""
        types = {**_NUMPY, "time": np.dtype(wide)}
        fields = [(name, types[kind]) for kind, names in self.fields.items() for name in names]
        size = struct.calcsize(f"<{self.format(wide)}")
        padding = size - np.dtype(fields).itemsize
        return np.dtype(fields + [("padding", np.uint8, (padding,))] * bool(padding))

    def c(self) -> str:
        lines = [f"    {_C[kind]} {', '.join(names)};" for kind, names in self.fields.items()]
        return (
            f"template <typename W> struct alignas(8) {self.name} {{\n" + "\n".join(lines) + "\n};"
        )

    def row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of a row in the order of the fields; those left out are 0."""
        unknown = set(values) - set(self.names)
        assert not unknown, unknown
        return tuple(values.get(name, 0) for name in self.names)


_FORMAT["float64"] = "d"

# Where the samples of a stream are in time. A block takes 8 `tiles_of_8` targets, `first_block` is
# the first of the stream's blocks. A uniform clock has no `times`, but its start and its rate in
# the constants from `uniform` on. Packed streams of windows have no step from row to row, but a
# number of episodes. The flags tell arrays of 4-byte numbers, a given tolerance, padding by
# mirroring, and a stream of one row that serves all.
NARROW_TIMES, NARROW_LENGTHS, NARROW_OFFSETS, NARROW_LATENCIES, TOLERANT, REFLECT, ONE_ROW = (
    1, 2, 4, 8, 16, 32, 64
)  # fmt: skip
STREAM = Record(
    "Stream",
    {
        "time": ("latency", "tolerance", "max_gap"),
        "int64": ("samples", "src_row_or_episodes"),
        "int": ("src_step", "first_block", "targets"),
        "u8": ("tiles_of_8", "parts", "times", "order", "lengths", "offsets", "latencies",
               "uniform", "valid", "deltas", "flags"),
    },
)  # fmt: skip

# Columns of a stream that are made in one way. A sample is `groups` times `stride` elements, and
# the part is `width` of them from `column` on, in each group. The constants are bits.
PART = Record(
    "Part",
    {
        "int64": ("data_row", "data_step"),
        "int": ("out_step", "out_column", "width", "groups", "stride", "column", "affine_size",
                "flags"),
        "u8": ("data", "out", "affine", "left_value", "right_value", "fill_value",
               "x", "y", "method", "left", "right", "rotation", "rotation_row", "vector", "fill"),
    },
)  # fmt: skip


class Capacity(NamedTuple):
    """How much a table holds. A small one is quicker to pack and to launch."""

    addresses: int
    constants: int
    streams: int
    parts: int


CAPACITIES = (Capacity(32, 8, 4, 8), Capacity(100, 16, 24, 24))


class Layout(NamedTuple):
    """A table: addresses, header, constants, streams, parts."""

    header: Record

    def format(self, wide: str, size: int) -> str:
        """The struct format of what comes after the addresses."""
        of = CAPACITIES[size]
        return _format(self.header, wide, of)

    def dtype(self, wide: str, size: int) -> np.dtype:
        of = CAPACITIES[size]
        return np.dtype(
            [
                ("at", np.int64, (of.addresses,)),
                ("header", self.header.dtype(wide)),
                ("constants", np.int64, (of.constants,)),
                ("streams", STREAM.dtype(wide), (of.streams,)),
                ("parts", PART.dtype(wide), (of.parts,)),
            ]
        )

    def c(self) -> str:
        """The C structs, one table for each size."""
        name = f"{self.header.name}Table"
        text = [STREAM.c(), PART.c(), self.header.c(), "template <int SIZE> struct Capacity;"]
        for size, of in enumerate(CAPACITIES):
            text.append(
                f"template <> struct Capacity<{size}> {{ static constexpr int "
                f"addresses = {of.addresses}, constants = {of.constants}, "
                f"streams = {of.streams}, parts = {of.parts}; }};"
            )
        text.append(
            f"template <typename W, int SIZE> struct {name} {{\n"
            "    const void* at[Capacity<SIZE>::addresses];\n"
            f"    {self.header.name}<W> header;\n"
            "    int64 constants[Capacity<SIZE>::constants];\n"
            "    Stream<W> streams[Capacity<SIZE>::streams];\n"
            "    Part<W> parts[Capacity<SIZE>::parts];\n"
            "};"
        )
        return "\n".join(text)


@functools.cache
def _fixed_format(wide: str, of: Capacity) -> str:
    return f"{of.constants}q" + STREAM.format(wide) * of.streams + PART.format(wide) * of.parts


def _format(header: Record, wide: str, of: Capacity) -> str:
    return header.format(wide) + _fixed_format(wide, of)


class Table:
    """A table being filled."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.addresses: list[Any] = [None]
        self.constants: list[Any] = [0]
        self.streams: list[dict[str, Any]] = []
        self.parts: list[dict[str, Any]] = []
        self._places: dict[int, int] = {id(None): 0}

    def at(self, x: Any) -> int:
        """The place of an array's address."""
        place = self._places.get(id(x))
        if place is None:
            place = self._places[id(x)] = len(self.addresses)
            self.addresses.append(x)
        return place

    def constant(self, *values: Any) -> int:
        """The place of some numbers; 0 for a single 0."""
        if values == (0,):
            return 0
        place = len(self.constants)
        self.constants.extend(values)
        return place

    def _sizes(self) -> list[int]:
        need = list(map(len, (self.addresses, self.constants, self.streams, self.parts)))
        return [
            size
            for size, of in enumerate(CAPACITIES)
            if all(n <= room for n, room in zip(need, of, strict=True))
        ]

    def fits(self) -> bool:
        return bool(self._sizes())

    def size(self) -> int:
        """The smallest size that holds it."""
        return self._sizes()[0]

    def arrays(self) -> tuple[Any, ...]:
        room = CAPACITIES[self.size()].addresses
        return (*self.addresses, *[None] * (room - len(self.addresses)))

    def numbers(self, header: Mapping[str, Any]) -> tuple[Any, ...]:
        of = CAPACITIES[self.size()]
        numbers = [*self.layout.header.row(header), *self.constants]
        numbers += [0] * (of.constants - len(self.constants))
        for record, rows, room in (
            (STREAM, self.streams, of.streams),
            (PART, self.parts, of.parts),
        ):
            for values in rows:
                numbers += record.row(values)
            numbers += [0] * (len(record.names) * (room - len(rows)))
        return tuple(numbers)


def define(name: str, header: Mapping[str, Sequence[str]]) -> Layout:
    """A kind of table, and the C header ``<name>.table`` that its kernel includes."""
    layout = Layout(Record(name.capitalize(), header))
    for wide in ("int64", "float64"):
        for size in range(len(CAPACITIES)):
            assert layout.dtype(wide, size).itemsize <= _LIMIT, name
    GENERATED[f"{name}.table"] = layout.c()
    return layout


FUSE = define(
    "fuse",
    {
        "time": ("t_start",),
        "double": ("hz", "ticks"),
        "int64": ("items", "tgt_row", "tgt_step", "out_row"),
        "int": ("streams", "first_stream", "valid_step", "blocks"),
        "u8": ("tgt_times", "tgt_lengths", "starts", "ends", "times", "index", "weight", "found",
               "narrow_targets", "narrow_tgt_lengths", "hull", "given_start", "chained"),
    },
)  # fmt: skip

WINDOWS = define(
    "windows",
    {
        "double": ("ticks",),
        "int64": ("anchors_count",),
        "int": ("streams", "blocks"),
        "u8": ("anchors", "anchor_times", "episodes", "narrow_anchors", "narrow_anchor_times",
               "narrow_episodes"),
    },
)  # fmt: skip


class Struct(NamedTuple):
    """All parameters of a kernel as one struct: addresses, then fields. A field ``name[n]`` is an
    array."""

    addresses: tuple[str, ...]
    fields: Mapping[str, Sequence[str]]  # double, int64

    def format(self) -> str:
        """The struct format of what comes after the addresses."""
        return "".join(
            f"{_array(name)[1]}{_FORMAT[kind]}"
            for kind, names in self.fields.items()
            for name in names
        )

    def dtype(self) -> np.dtype:
        fields: list[Any] = [(name, np.int64) for name in self.addresses]
        for kind, names in self.fields.items():
            for name, size in map(_array, names):
                fields.append((name, _NUMPY[kind], (size,)) if size > 1 else (name, _NUMPY[kind]))
        return np.dtype(fields)

    def c(self, name: str) -> str:
        lines = [f"    const void *{', *'.join(self.addresses)};"]
        lines += [f"    {_C[kind]} {', '.join(names)};" for kind, names in self.fields.items()]
        return f"struct {name} {{\n" + "\n".join(lines) + "\n};"

    def arrays(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(values.get(name) for name in self.addresses)

    def numbers(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in the order of the fields, arrays flat; those left out are 0."""
        known = set(self.addresses) | {
            _array(n)[0] for names in self.fields.values() for n in names
        }
        assert known >= values.keys(), values.keys() - known
        numbers: list[Any] = []
        for kind, names in self.fields.items():
            for name, size in map(_array, names):
                zero: Any = 0.0 if kind == "double" else 0
                x = values.get(name, (zero,) * size if size > 1 else zero)
                numbers += x if type(x) is tuple else [x]
        return tuple(numbers)


@functools.cache
def _array(name: str) -> tuple[str, int]:
    """The name and size of a field."""
    name, _, size = name.partition("[")
    return name, int(size[:-1] or 1) if size else 1


def struct_of(name: str, addresses: tuple[str, ...], fields: Mapping[str, Sequence[str]]) -> Struct:
    """A kind of struct, and the C header ``<name>.table`` that its kernels include."""
    made = Struct(addresses, fields)
    GENERATED[f"{name}.table"] = made.c(name.capitalize())
    return made


# A batch of point clouds, or of depth images, on a lattice of voxels.
# Clouds come in `chunks` of points, lattices in `slabs` of voxels, whose number is 2 ** `bits`;
# a launch works on the slabs from voxel `first` on, of those of each cloud.
CLOUD = struct_of(
    "cloud",
    ("points", "lengths", "mask", "origins", "transforms", "features", "moved", "sorted", "out",
     "intrinsics", "rays", "bins"),
    {
        "double": ("lattice[9]", "transform[12]", "fill",
                   "pinhole[4]", "pixel_offset", "scale", "near", "far"),
        "int64": (
            "clouds", "most", "row", "batch", "lengths_width", "mask_row", "mask_step",
            "origins_row", "origins_width", "transforms_row", "transforms_width",
            "grid[3]", "voxels", "clamped", "moving",
            "chunks", "chunk", "bits", "slabs", "first", "lane_bits",
            "channels", "feature_row", "feature_batch", "out_batch", "out_voxel", "out_channel",
            "kind", "one",
            "images", "views", "height", "width", "stride", "image", "image_row", "image_step",
            "intrinsics_row", "intrinsics_width", "intrinsics_columns", "intrinsics_cycle",
            "transforms_cycle", "along_ray", "upward", "words",
        ),
    },
)  # fmt: skip

# Points sorted by the voxels they lie in, cloud by cloud, and the voxels that have any: the rows of
# a result. Points come in `chunks`; a pass sorts by a digit of the keys, from bit `shift` on.
SPARSE = struct_of(
    "sparse",
    ("keys", "ids", "next_keys", "next_ids", "bins", "totals", "kept", "segments", "starts",
     "ranks", "offsets", "found", "row_starts", "coords", "counts", "limited", "first", "inverse",
     "origins", "features", "exponents", "sums", "out"),
    {
        "double": ("lattice[9]",),
        "int64": (
            "clouds", "most", "chunks", "chunk", "shift", "digits", "all_points", "by_point",
            "min_points", "capacity", "rows", "grid[3]", "reversed",
            "origins_row", "origins_width", "channels", "feature_row", "feature_batch",
            "slots", "kind", "one",
        ),
    },
)  # fmt: skip
