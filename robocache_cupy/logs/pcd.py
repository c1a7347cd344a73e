"""PCD, the format of the Point Cloud Library: ascii, binary and binary_compressed.

A cloud with HEIGHT above 1 is organized: its rows are those of an image. Colours, which PCD packs
into the bits of one field rgb or rgba, become the columns red, green, blue and alpha. Fields
called ``_`` are padding. VIEWPOINT, the pose of the sensor, is not applied: the points are in the
frame that the file has them in. https://pointclouds.org/documentation/tutorials/pcd_file_format.html
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fields import LONGEST, PADDING, Fields, check_binary, count, text_rows
from .stream import LogError

_WORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS")
_KINDS = ("ascii", "binary", "binary_compressed")
_SIZES = {"I": (1, 2, 4, 8), "U": (1, 2, 4, 8), "F": (4, 8)}
_LONGEST_HEADER = 1 << 12  # lines
_MOST = 1 << 10  # fields
_WIDEST = 1 << 20  # bytes of a point


def is_pcd(head: bytes) -> bool:
    """Whether a file that begins like this has the header of a PCD."""
    if head.startswith(b"# .PCD"):
        return True
    lines = (line.split() for line in head.split(b"\n") if not line.lstrip().startswith(b"#"))
    first = next((line for line in lines if line), [b""])[0]
    return first in [word.encode() for word in _WORDS]


class _Field(NamedTuple):
    name: str
    dtype: np.dtype[Any]  # of one value
    repeats: int

    @property
    def size(self) -> int:
        return self.dtype.itemsize * self.repeats


class _Header(NamedTuple):
    fields: list[_Field]
    width: int
    height: int
    data: str
    lines: int

    @property
    def points(self) -> int:
        return self.width * self.height


def read(path: Path, file: BinaryIO) -> Fields:
    """Read a PCD file from its first byte on."""
    header = _header(path, file)
    if header.data == "binary_compressed":
        values = _compressed(path, file, header)
    else:
        # By position: the fields of padding all have the same name.
        dtype = np.dtype(
            [(str(i), f.dtype, (f.repeats,) * (f.repeats > 1)) for i, f in enumerate(header.fields)]
        )
        if header.data == "ascii":
            rows = text_rows(path, file, dtype, above=header.lines, most=header.points)
        else:
            check_binary(path, file, header.points, dtype.itemsize)
            rows = np.fromfile(file, dtype, header.points)
        values = [rows[name] for name in dtype.names or ()]
    _check_end(path, file, header)
    named = {
        field.name: value
        for field, value in zip(header.fields, values, strict=True)
        if field.name != PADDING
    }
    organized = (header.height, header.width) if header.height > 1 else None
    return Fields(_unpacked(named), organized, f"PCD ({header.data})")


def _header(path: Path, file: BinaryIO) -> _Header:
    said: dict[str, list[str]] = {}
    for number in range(1, _LONGEST_HEADER):
        words = file.readline(LONGEST).decode("latin-1").split()
        if words and words[0] == "DATA":
            break
        if words and words[0] in _WORDS:
            said[words[0]] = words[1:]
        elif words and not words[0].startswith("#"):
            raise LogError(
                f"{path} is damaged: line {number} of its PCD header begins with "
                f"{words[0][:40]!a}: write it again"
            )
        elif not words and file.tell() >= os.fstat(file.fileno()).st_size:
            raise LogError(f"{path} is truncated: its PCD header has no DATA: copy it again")
    else:
        raise LogError(f"{path} is damaged: its PCD header has no end: write it again")
    data = words[1].lower() if len(words) > 1 else ""
    if data not in _KINDS:
        raise LogError(f"{path}: DATA is {data[:40]!a}, expected one of {', '.join(_KINDS)}")

    def one(word: str) -> int:
        if len(said[word]) != 1:
            raise LogError(f"{path}: {word} has {len(said[word])} values, expected 1")
        return count(path, word, said[word][0])

    if "WIDTH" not in said and "POINTS" not in said:
        raise LogError(f"{path}: its PCD header has no WIDTH and no POINTS: write it again")
    height = one("HEIGHT") if "HEIGHT" in said else 1
    width = one("WIDTH") if "WIDTH" in said else one("POINTS") // max(height, 1)
    points = one("POINTS") if "POINTS" in said else width * height
    if points != width * height:
        raise LogError(
            f"{path}: POINTS is {points}, but WIDTH x HEIGHT is {width} x {height}: write it again"
        )
    return _Header(_fields(path, said), width, height, data, number)


def _fields(path: Path, said: dict[str, list[str]]) -> list[_Field]:
    names = said.get("FIELDS", [])
    if not 0 < len(names) <= _MOST:
        raise LogError(f"{path}: its PCD header has {len(names)} FIELDS: write it again")
    said.setdefault("COUNT", ["1"] * len(names))
    for word in ("SIZE", "TYPE", "COUNT"):
        found = said.get(word, [])
        if len(found) != len(names):
            raise LogError(
                f"{path}: {word} has {len(found)} values for the {len(names)} of FIELDS: "
                "write it again"
            )
    fields = []
    columns = zip(names, said["SIZE"], said["TYPE"], said["COUNT"], strict=True)
    for name, size, kind, many in columns:
        width, repeats = count(path, "SIZE", size), count(path, "COUNT", many)
        if width not in _SIZES.get(kind, ()):
            raise LogError(
                f"{path}: field {name!a} has TYPE {kind[:40]!a} and SIZE {width}, expected "
                "I or U of 1, 2, 4 or 8 bytes, or F of 4 or 8"
            )
        if repeats < 1:
            raise LogError(f"{path}: field {name!a} has COUNT 0, expected at least 1")
        fields.append(_Field(name, np.dtype(f"<{kind.lower()}{width}"), repeats))
    if (total := sum(field.size for field in fields)) > _WIDEST:
        raise LogError(f"{path}: a point of it has {total} bytes by its header: write it again")
    real = [name for name in names if name != PADDING]
    if twice := [name for name in real if real.count(name) > 1]:
        raise LogError(f"{path} has two fields called {twice[0]!a}: rename one")
    return fields


def _compressed(path: Path, file: BinaryIO, header: _Header) -> list[NDArray[Any]]:
    """All x, then all y and so on, in LZF."""
    sizes = file.read(8)
    packed, unpacked = struct.unpack("<II", sizes) if len(sizes) == 8 else (0, 0)
    check_binary(path, file, 1, packed)
    expected = header.points * sum(field.size for field in header.fields)
    if len(sizes) < 8 or unpacked != expected:
        raise LogError(
            f"{path} is damaged: its compressed data are said to be {unpacked} bytes, but its "
            f"{header.points} points are {expected}: write it again"
        )
    try:
        plain = lzf_decompress(file.read(packed), unpacked)
    except ValueError as error:
        raise LogError(f"{path} is damaged: {error}: copy or write it again") from error
    values, offset = [], 0
    for field in header.fields:
        many = header.points * field.repeats
        value = np.frombuffer(plain, field.dtype, many, offset)
        values.append(value.reshape(header.points, field.repeats) if field.repeats > 1 else value)
        offset += header.points * field.size
    return values


def lzf_decompress(data: bytes, size: int) -> bytearray:
    """Decompress LZF, the format of liblzf.

    A first byte below 32 is one less than the number of bytes that follow as they are. Any other
    one begins a copy of what was written before: its upper three bits are the length less 2, or 7
    where a byte with the rest of the length follows; its lower five and the next byte are the
    distance less 1. A distance below the length repeats what it copies.

    Raises
    ------
    ValueError
        If the data end too early, point before their beginning or do not give `size` bytes.

    Examples
    --------
    >>> lzf_decompress(b"\\x01ab\\x40\\x01", 6)
    bytearray(b'ababab')
    """
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            length += 2
            distance = ((control & 31) << 8 | data[at]) + 1
            at += 1
            start = len(out) - distance
            if start < 0:
                raise ValueError("its LZF data point before their beginning")
            if distance >= length:
                out += out[start : start + length]
            else:
                out += (out[start:] * (length // distance + 1))[:length]
    except IndexError:
        at = end + 1
    if at > end:
        raise ValueError("its LZF data end too early")
    if len(out) != size:
        raise ValueError(f"its LZF data do not give the {size} bytes that they say")
    return out


def _unpacked(values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The fields with colours as bytes."""
    found: dict[str, NDArray[Any]] = {}
    for name, value in values.items():
        shifts = {"red": 16, "green": 8, "blue": 0} | ({"alpha": 24} if name == "rgba" else {})
        packed = name in ("rgb", "rgba") and value.ndim == 1 and value.dtype.itemsize == 4
        if not packed or shifts.keys() & values.keys() or shifts.keys() & found.keys():
            found[name] = value
            continue
        bits = np.ascontiguousarray(value).view(np.uint32)
        found.update({colour: (bits >> shift).astype(np.uint8) for colour, shift in shifts.items()})
    return found


def _check_end(path: Path, file: BinaryIO, header: _Header) -> None:
    """That nothing follows, other than the zeros to the end of a page that PCL writes."""
    nothing = b"\0 \t\r\n" if header.data == "ascii" else b"\0"
    while block := file.read(LONGEST):
        if block.strip(nothing):
            raise LogError(
                f"{path} goes on after the {header.points} points of its header: write it again"
            )
