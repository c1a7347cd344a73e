"""What the formats of clouds share: rows of fields, in binary and in text."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .stream import LogError

AXES = ("x", "y", "z")
PADDING = "_"  # the name of a column that is none
LONGEST = 1 << 20  # bytes of a line
_COUNT = re.compile(r"\d{1,18}", re.ASCII)
_SHOWN = 60  # characters of a line


class Fields(NamedTuple):
    """A cloud as the file has it."""

    values: Mapping[str, NDArray[Any]]  # by name, of shape (N, *F)
    organized: tuple[int, int] | None
    source: str


def count(path: Path, what: str, text: str) -> int:
    """A number of things in a header."""
    if not _COUNT.fullmatch(text):
        raise LogError(f"{path}: {what} is {text[:_SHOWN]!a}, expected a number of at least 0")
    return int(text)


def check_binary(path: Path, file: BinaryIO, points: int, row: int) -> None:
    """That so many rows of so many bytes follow, before memory is taken for them."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if points * row > left:
        raise LogError(
            f"{path} is truncated, or its header wrong: {points} points of {row} bytes are "
            f"expected, and {max(left, 0)} bytes follow: copy or write it again"
        )


def text_rows(
    path: Path,
    file: BinaryIO,
    dtype: np.dtype[Any],
    *,
    above: int,
    most: int | None = None,
    separator: str | None = None,
    comments: tuple[bytes, ...] = (),
) -> NDArray[Any]:
    """Rows of a structured dtype from lines of numbers, of which `above` lie before.

    Blank lines and comments are no rows. Without `most` the rows go on to the end of the file.
    """
    number, line = above, b""

    def lines() -> Iterator[str]:
        nonlocal number, line
        found = 0
        while (most is None or found < most) and (raw := file.readline(LONGEST)):
            number, line = number + 1, raw.strip()
            if line and not (comments and line.startswith(comments)):
                found += 1
                yield line.decode("latin-1")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".*input contained no data")
            read = np.loadtxt(lines(), dtype, comments=None, delimiter=separator, ndmin=1)
    except (ValueError, OverflowError, Warning) as error:
        shown = line[:_SHOWN].decode("ascii", "backslashreplace")
        width = sum(int(np.prod(dtype[name].shape)) for name in dtype.names or ())
        raise LogError(
            f"{path}: line {number} is {shown!r}, expected {width} numbers in the "
            "types of their columns: write it again"
        ) from error
    if most is not None and len(read) < most:
        raise LogError(
            f"{path} is truncated: it says {most} points and has {len(read)}: copy it again"
        )
    return read


def of_table(table: NDArray[Any], names: Sequence[str], source: str) -> Fields:
    """The columns of a table, with names for them."""
    named = {name: table[:, i] for i, name in enumerate(names) if name != PADDING}
    return Fields(named, None, source)


def numbered(columns: int) -> tuple[str, ...]:
    """Names for the columns of a table that nobody named."""
    return (*AXES, *(f"column_{i}" for i in range(4, columns + 1)))


def fitting(path: Path, columns: tuple[str, ...] | None, count: int) -> tuple[str, ...] | None:
    """The names that were asked for, if they are as many as the columns."""
    if columns is not None and len(columns) != count:
        raise LogError(f"{path} has {count} columns, but columns= names {len(columns)}")
    return columns


def check_unnamed(path: Path, columns: tuple[str, ...] | None) -> None:
    """That no names were asked for, where the file has its own."""
    if columns is not None:
        raise LogError(f"{path} names its columns itself: leave columns out")


def some(names: Sequence[str], shown: int = 8) -> str:
    """Names for a message."""
    more = ", ..." if len(names) > shown else ""
    return ", ".join(ascii(name)[1:-1] for name in names[:shown]) + more or "nothing"
