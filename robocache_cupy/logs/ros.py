"""ROS 1 bags, and ROS 2 bags in SQLite (.db3) or MCAP, through rosbags.

Every topic with numbers in its messages is one stream of shape (n, C). Its columns are the
numeric fields with dotted names, arrays spread out: ``linear_acceleration.x``, ``ranges.17``.

- Transforms (a message that is only a list of stamped transforms) are one stream for each
  child frame: ``/tf/laser``.
- Quaternions are rotations, unless they are not of length 1: fields that a driver leaves as they
  are have zeros. Such columns are `discrete`.
- A stream is integer where all of its columns are; otherwise it is float64.
- Times and durations inside a message are int64 ns. Headers are no columns, and neither is text.
- Bytes of no declared length (images, point clouds, maps) and arrays that change their length
  are left out, and listed in `Log.skipped`.
- A topic whose headers were never stamped has the time of recording.
- ROS 2 bags from before message definitions were recorded are read with those of Humble.

A bag has its topics interleaved, so one pass takes them apart. What does not fit a block of
memory for each topic waits in a temporary file; see `spool`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rotation import KINDS
from .spool import Spool
from .stream import Log, LogError, Progress, Stream, one_line, require

_HEADER = "std_msgs/msg/Header"
_QUATERNION = "geometry_msgs/msg/Quaternion"
_TIME = ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration")
_OCTETS = ("uint8", "int8", "byte", "char")
_DTYPES = {
    name: np.dtype({"byte": "int8", "char": "uint8"}.get(name, name))
    for name in (
        *("bool", "byte", "char", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "float32", "float64"),
    )
}
_NOT_NUMERIC = ("string", "wstring", "wchar", "fixed", "float128")

_CLOSE = 1e-2  # to 1, of quaternions
_BLOCK = 1 << 20  # bytes of a topic that stay in memory
_MESSAGES = 256  # between two signs of life

_Path = tuple[str | int, ...]


class _Kind(NamedTuple):
    suffix: str  # rosbags goes by it
    remedy: str


_KINDS = {
    "ROS 1 bag": _Kind(".bag", "copy it again, or try rosbag reindex"),
    "ROS 2 bag (SQLite)": _Kind(".db3", "copy it again, or try sqlite3 with .recover"),
    "ROS 2 bag (MCAP)": _Kind(".mcap", "copy it again, or try mcap recover"),
    "ROS 2 bag": _Kind("", "copy it again, or try ros2 bag reindex"),
}


def read(
    path: Path,
    form: str,
    *,
    log_time: bool = False,
    episode: str | None = None,
    progress: Progress | None = None,
) -> Log:
    """Open a bag: all the numbers in it are read, one message after the other."""
    if episode is not None:
        raise LogError(f"{path} is a {form}, which has no episodes to choose from")
    highlevel, typesys = require("rosbags.highlevel"), require("rosbags.typesys")
    kind = _KINDS[form]
    skipped: dict[str, str] = {}
    try:
        if kind.suffix == ".db3":
            _check_pages(path)
        humble = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        with highlevel.AnyReader([_named(path, kind.suffix)], default_typestore=humble) as bag:
            parts = _collect(bag, skipped, progress)
        streams = {name: part.stream(name, log_time=log_time) for name, part in parts.items()}
    except LogError:
        raise
    except Exception as error:  # damage shows as anything, from AssertionError to zlib errors
        raise LogError(
            f"{path} cannot be read as {form}, so it is truncated, damaged or was not closed: "
            f"{kind.remedy} ({one_line(error)})"
        ) from error
    if not streams:
        found = "".join(f" ({name}: {reason})" for name, reason in skipped.items())
        raise LogError(f"{path} has no numbers in it{found}: nothing to read")
    return Log(path, form, streams, skipped)


def _check_pages(path: Path) -> None:
    """SQLite reads a last page that was cut off as if zeros followed."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    if size == 1:  # 65536 does not fit the two bytes
        size = 65536
    if not size or path.stat().st_size % size:
        raise EOFError("the last page is incomplete")


def _named(path: Path, suffix: str) -> Path:
    """`path` as that of a file with this suffix, whatever the file is called."""
    if path.suffix == suffix:
        return path
    return type("Renamed", (type(path),), {"suffix": suffix})(path)


def _collect(
    bag: Any, skipped: dict[str, str], progress: Progress | None = None
) -> dict[str, _Part]:
    """The parts of all the messages by the name of their stream."""
    msgtypes: dict[str, str] = {}
    for connection in bag.connections:
        topic, msgtype = connection.topic, connection.msgtype
        if not connection.msgcount:
            skipped.setdefault(topic, "no messages")
        elif msgtypes.setdefault(topic, msgtype) != msgtype:
            skipped[f"{topic} ({msgtype})"] = f"the topic has messages of {msgtypes[topic]} as well"
    for topic in msgtypes:
        skipped.pop(topic, None)

    types, spool = _Types(bag.typestore), Spool()
    parts: dict[str, _Part] = {}
    decoded, filled = set(), set()
    for i, (connection, log_stamp, raw) in enumerate(bag.messages()):
        if progress and i % _MESSAGES == 0:
            progress(i, bag.message_count)
        topic, msgtype = connection.topic, connection.msgtype
        if topic in skipped or msgtypes.get(topic) != msgtype:
            continue
        try:
            message = bag.deserialize(raw, msgtype)
        except Exception as error:
            if topic in decoded:
                raise
            # Not damage, most likely: a type that is not defined, or an encoding of its own.
            skipped[topic] = f"{msgtype} cannot be decoded ({one_line(error)})"
            continue
        decoded.add(topic)
        for name, typename, sample in types.split(topic, msgtype, message):
            if name not in parts:
                parts[name] = _Part(types, typename, sample, spool)
            parts[name].add(sample, log_stamp)
            filled.add(topic)

    skipped.update(dict.fromkeys(decoded - filled, "its messages are empty"))
    for name, part in parts.items():
        skipped.update({f"{name}.{field}": reason for field, reason in part.skipped.items()})
        if not part.columns:
            skipped[name] = f"nothing numeric in {part.typename}"
    return {name: part for name, part in parts.items() if part.columns}


class _Field(NamedTuple):
    name: str
    typename: str
    repeated: bool
    declared_length: bool


_STAMPED = _Field("header", _HEADER, repeated=False, declared_length=True)
_CHILD_FRAME = _Field("child_frame_id", "string", repeated=False, declared_length=True)


class _Types:
    """The message definitions of a bag."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._nodes = require("rosbags.interfaces").Nodetype
        self._fields: dict[str, list[_Field]] = {}

    def fields(self, typename: str) -> list[_Field]:
        if typename not in self._fields:
            self._fields[typename] = [
                self._field(name, *definition)
                for name, definition in self._store.get_msgdef(typename).fields
                if name != "structure_needs_at_least_one_member"
            ]
        return self._fields[typename]

    def _field(self, name: str, node: Any, detail: Any) -> _Field:
        repeated = node in (self._nodes.ARRAY, self._nodes.SEQUENCE)
        inner_node, inner = detail[0] if repeated else (node, detail)
        typename = inner[0] if inner_node == self._nodes.BASE else inner
        return _Field(name, typename, repeated, node != self._nodes.SEQUENCE)

    def split(self, topic: str, typename: str, message: Any) -> Iterator[tuple[str, str, Any]]:
        """Name, type and content of each sample: the message itself, or the transforms in it."""
        fields = self.fields(typename)
        if len(fields) == 1 and fields[0].repeated and fields[0].typename not in _DTYPES:
            ((name, element, _, _),) = fields
            if element not in _NOT_NUMERIC and _CHILD_FRAME in self.fields(element):
                for sample in getattr(message, name):
                    yield f"{topic}/{sample.child_frame_id.strip('/')}", element, sample
                return
        yield topic, typename, message


class _Column:
    """One numeric field, an array of fixed length included, in all messages so far."""

    def __init__(
        self,
        name: str,
        get: Callable[[Any], Any],
        dtype: np.dtype[Any],
        length: int | None = None,
        *,
        rotation: bool = False,
    ) -> None:
        self.name, self.dtype, self.rotation = name, dtype, rotation
        self.width = 1 if length is None else length
        self.fields = [name] if length is None else [f"{name}.{i}" for i in range(length)]
        self._newest = array("B" if dtype == np.bool_ else dtype.char)
        self._blocks: list[int] = []  # where each is in the spool
        self.add: Callable[[Any], None]
        if length is None:
            self.add = lambda message: self._newest.append(get(message))
        else:
            self.add = lambda message: self._newest.frombytes(get(message).tobytes())

    @property
    def row_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def spill(self, spool: Spool) -> None:
        """Move the newest rows, a whole block of them, out of the memory."""
        self._blocks.append(spool.add(self._newest))
        del self._newest[:]

    def read(self, rows: range, spool: Spool, block: int) -> NDArray[Any]:
        """Rows that are all in one block of `block` rows."""
        number, first = divmod(rows.start, block)
        skip, size = first * self.row_bytes, len(rows) * self.row_bytes
        if number < len(self._blocks):
            data: Any = spool.read(self._blocks[number] + skip, size)
        else:
            data = memoryview(self._newest).cast("B")[skip : skip + size]
        return np.frombuffer(data, self.dtype).reshape(len(rows), self.width)


@dataclass(frozen=True)
class _Samples:
    """The rows of a stream: its columns side by side."""

    columns: list[_Column]
    spool: Spool
    block: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        wanted = range(*rows.indices(self.shape[0]))
        values = np.empty((len(wanted), self.shape[1]), self.dtype)
        start = wanted.start
        while start < wanted.stop:
            stop = min(wanted.stop, (start // self.block + 1) * self.block)
            place, left = values[start - wanted.start : stop - wanted.start], 0
            for column in self.columns:
                right = left + column.width
                place[:, left:right] = column.read(range(start, stop), self.spool, self.block)
                left = right
            start = stop
        return values


class _Length(NamedTuple):
    name: str
    get: Callable[[Any], Any]
    length: int


class _Part:
    """Collects the samples of one stream. The first one decides on the columns."""

    def __init__(self, types: _Types, typename: str, first: Any, spool: Spool) -> None:
        self.typename = typename
        self.columns: list[_Column] = []
        self.skipped: dict[str, str] = {}
        self._types = types
        self._lengths: list[_Length] = []
        self._has_header = _STAMPED in types.fields(typename)
        self._header_stamps, self._log_stamps = array("q"), array("q")
        self._plan(typename, first, ())
        self._spool = spool
        row_bytes = sum(column.row_bytes for column in self.columns)
        self._block = max(1, _BLOCK // max(row_bytes, 1))  # rows

    def _plan(self, typename: str, value: Any, path: _Path, *, rotation: bool = False) -> None:
        """Add the columns of a value at `path` in the message."""
        if dtype := _DTYPES.get(typename):
            self.columns.append(_Column(_name(path), _getter(path), dtype, rotation=rotation))
        elif typename in _TIME:
            get = _getter(path)
            self.columns.append(
                _Column(_name(path), lambda message: _nanoseconds(get(message)), _DTYPES["int64"])
            )
        elif typename not in (*_NOT_NUMERIC, _HEADER):
            for field in self._types.fields(typename):
                inner, inner_path = getattr(value, field.name), (*path, field.name)
                if field.repeated:
                    self._plan_array(field, inner, inner_path)
                else:
                    self._plan(field.typename, inner, inner_path, rotation=typename == _QUATERNION)

    def _plan_array(self, field: _Field, values: Any, path: _Path) -> None:
        name, get = _name(path), _getter(path)
        if field.typename in _NOT_NUMERIC:
            return
        if not field.declared_length:
            if field.typename in _OCTETS:
                self.skipped[name] = "bytes of no declared length are left out"
                return
            self._lengths.append(_Length(name, get, len(values)))
        if dtype := _DTYPES.get(field.typename):
            if len(values):
                self.columns.append(_Column(name, get, dtype, len(values)))
        else:
            for i, value in enumerate(values):
                self._plan(field.typename, value, (*path, i))

    def add(self, sample: Any, log_stamp: int) -> None:
        self._log_stamps.append(log_stamp)
        if self._has_header:
            self._header_stamps.append(_nanoseconds(sample.header.stamp))
        while changed := self._changed_length(sample):
            self._drop(changed)
        for column in self.columns:
            column.add(sample)
        if len(self._log_stamps) % self._block == 0:
            for column in self.columns:
                column.spill(self._spool)

    def _changed_length(self, sample: Any) -> str | None:
        # Outer arrays come first, so that those inside of a changed one are never looked at.
        return next((n for n, get, length in self._lengths if len(get(sample)) != length), None)

    def _drop(self, name: str) -> None:
        def keep(other: str) -> bool:
            return other != name and not other.startswith(f"{name}.")

        self.columns = [column for column in self.columns if keep(column.name)]
        self._lengths = [length for length in self._lengths if keep(length.name)]
        self.skipped[name] = "its length changes"

    def stream(self, name: str, *, log_time: bool) -> Stream:
        stamped = not log_time and any(self._header_stamps)
        stamps = self._header_stamps if stamped else self._log_stamps
        dtype = np.result_type(*(column.dtype for column in self.columns))
        if dtype.kind == "f":
            dtype = np.dtype(np.float64)
        discrete: list[int] = []
        rotations: dict[str, str] = {}
        width = turned = 0
        for i, column in enumerate(self.columns):
            if column.rotation and column.name.rpartition(".")[2] == "x" and self._is_unit(i):
                turned = width + 4
                rotations[f"{width}:{turned}"] = "quat_xyzw"
            if column.dtype.kind != "f" or (column.rotation and width >= turned):
                discrete += range(width, width + column.width)
            width += column.width
        shape = (len(stamps), width)
        kind = self._stream_kind()
        return Stream(
            name=name,
            times=np.array(stamps, np.int64),
            rows=_Samples(self.columns, self._spool, self._block, shape, dtype),
            kind=kind,
            fields=tuple(field for column in self.columns for field in column.fields),
            discrete=tuple(discrete),
            rotation=KINDS.get(kind, rotations) if rotations else None,
            attrs={"type": self.typename, "clock": "header" if stamped else "log"},
        )

    def _is_unit(self, first: int) -> bool:
        """Whether the quaternion in four columns is one: of length 1 wherever it is set."""
        count, found = len(self._log_stamps), False
        for start in range(0, count, self._block):
            rows = range(start, min(count, start + self._block))
            parts = [
                column.read(rows, self._spool, self._block)
                for column in self.columns[first : first + 4]
            ]
            lengths = np.linalg.norm(np.hstack(parts).astype(np.float64), axis=1)
            lengths = lengths[lengths > 0]
            if np.any(np.abs(lengths - 1) > _CLOSE):
                return False
            found |= lengths.size > 0
        return found

    def _stream_kind(self) -> str:
        names = [column.name.rpartition(".")[2] for column in self.columns]
        rotations = [column.rotation for column in self.columns]
        if names == ["x", "y", "z", "w"] and all(rotations):
            return "quat_xyzw"
        if names == ["x", "y", "z", "x", "y", "z", "w"] and rotations == [False] * 3 + [True] * 4:
            return "pose_xyz_quat_xyzw"
        return "vector"


def _name(path: _Path) -> str:
    return ".".join(map(str, path))


def _getter(path: _Path) -> Callable[[Any], Any]:
    if all(isinstance(step, str) for step in path):
        return attrgetter(_name(path))

    def get(message: Any) -> Any:
        for step in path:
            message = getattr(message, step) if isinstance(step, str) else message[step]
        return message

    return get


def _nanoseconds(time: Any) -> int:
    return time.sec * 1_000_000_000 + time.nanosec
