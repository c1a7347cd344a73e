"""PLY, the Stanford polygon format: ascii, binary_little_endian and binary_big_endian.

The points are its element ``vertex``. Other elements, such as faces, are skipped, with or without
lists, wherever they are. http://paulbourke.net/dataformats/ply
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .fields import LONGEST, Fields, check_binary, count, some, text_rows
from .stream import LogError

_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float": "f4", "double": "f8", "float32": "f4", "float64": "f8",
}  # fmt: skip
_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}  # of struct
_LONGEST_HEADER = 1 << 14  # lines


def is_ply(head: bytes) -> bool:
    """Whether a file that begins like this has the header of a PLY."""
    return head.startswith((b"ply\n", b"ply\r\n"))


class _Property(NamedTuple):
    name: str
    type: str
    length: str | None  # type of the length of a list


class _Element(NamedTuple):
    name: str
    rows: int
    properties: list[_Property]

    @property
    def lists(self) -> list[str]:
        return [p.name for p in self.properties if p.length]

    def dtype(self, order: str) -> np.dtype[Any]:
        return np.dtype([(p.name, order + p.type) for p in self.properties])


def read(path: Path, file: BinaryIO) -> Fields:
    """Read a PLY file from its first byte on."""
    form, elements, lines = _header(path, file)
    order = _ORDERS[form]
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise LogError(f"{path} has no element vertex, only {some(names)}: it is no cloud")
    at = names.index("vertex")
    vertex = elements[at]
    if vertex.lists:
        raise LogError(
            f"{path}: its vertices have the list {some(vertex.lists)}: write them without"
        )
    if not vertex.properties:
        raise LogError(f"{path}: its vertices have no properties: write it again")
    dtype = vertex.dtype(order)
    if form == "ascii":
        for element in elements[:at]:
            lines += _skip_lines(file, element.rows)
        rows = text_rows(path, file, dtype, above=lines, most=vertex.rows)
    else:
        for element in elements[:at]:
            _skip(path, file, element, order)
        check_binary(path, file, vertex.rows, dtype.itemsize)
        rows = np.fromfile(file, dtype, vertex.rows)
    return Fields({p.name: rows[p.name] for p in vertex.properties}, None, f"PLY ({form})")


def _header(path: Path, file: BinaryIO) -> tuple[str, list[_Element], int]:
    """The format, the elements, and the number of lines."""
    form, elements = "", list[_Element]()
    for number in range(1, _LONGEST_HEADER):
        raw = file.readline(LONGEST)
        words = raw.decode("latin-1").split()
        if not raw:
            raise LogError(f"{path} is truncated: its PLY header has no end_header: copy it again")
        match words:
            case ["end_header"]:
                break
            case [] | ["ply"] | ["comment" | "obj_info", *_]:
                continue
            case ["format", form, _] if form in _ORDERS:
                continue
            case ["element", name, many]:
                if any(element.name == name for element in elements):
                    raise LogError(f"{path} has two elements {name!a}: write it again")
                elements.append(_Element(name, count(path, f"the number of {name!a}", many), []))
            case ["property", "list", length, kind, name] if (
                elements and _TYPES.get(length) in _CODES and kind in _TYPES
            ):
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[length]))
            case ["property", kind, name] if elements and kind in _TYPES:
                if any(p.name == name for p in elements[-1].properties):
                    raise LogError(f"{path} has two properties {name!a}: rename one")
                elements[-1].properties.append(_Property(name, _TYPES[kind], None))
            case _:
                shown = ascii(" ".join(words)[:60])
                raise LogError(
                    f"{path}: line {number} of its PLY header is {shown}, which is not known: "
                    "write it again"
                )
    else:
        raise LogError(f"{path} is damaged: its PLY header has no end: write it again")
    if not form:
        raise LogError(f"{path}: its PLY header has no format: write it again")
    return form, elements, number


def _skip_lines(file: BinaryIO, rows: int) -> int:
    """Go past so many rows of text; the number of lines that they were."""
    lines = found = 0
    while found < rows and (raw := file.readline(LONGEST)):
        lines, found = lines + 1, found + bool(raw.strip())
    return lines


def _skip(path: Path, file: BinaryIO, element: _Element, order: str) -> None:
    """Go past an element in binary."""
    if not element.lists:
        size = element.dtype(order).itemsize if element.properties else 0
        check_binary(path, file, element.rows, size)
        file.seek(element.rows * size, 1)
        return
    steps: list[tuple[int, struct.Struct, int]] = []  # bytes before a list, its length, its items
    before = 0
    for p in element.properties:
        size = np.dtype(p.type).itemsize
        if p.length:
            steps.append((before, struct.Struct(order + _CODES[p.length]), size))
            before = 0
        else:
            before += size
    start = file.tell()
    data, at = file.read(), 0
    try:
        for _ in range(element.rows):
            for fixed, length, size in steps:
                at += fixed
                (many,) = length.unpack_from(data, at)
                if many < 0:
                    raise LogError(
                        f"{path} is damaged: {element.name!a} has a list of {many} values: "
                        "write it again"
                    )
                at += length.size + many * size
            at += before
    except struct.error as error:
        raise LogError(f"{path} is truncated in its {element.name!a}: copy it again") from error
    file.seek(start + at)
