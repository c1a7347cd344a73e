"""Text with a stamp and numbers in each line: CSV, TUM trajectories, EuRoC.

Columns are separated by commas, semicolons or blanks. Lines that begin with ``#`` or ``%`` are
comments; the names of the columns are the last of them or a first line without numbers. The
stamp is the first column: seconds as decimal text, or ns as integers, unless its name says
otherwise as in ``timestamp [us]``. It becomes int64 ns exactly, without a float in between.

A position and a unit quaternion behind the stamp are a pose (x, y, z, qx, qy, qz, qw, the order
of TUM). Where the names say that w comes first, as in EuRoC, the columns are put in that order.
The stream has the name of the file.
"""

from __future__ import annotations

import re
from array import array
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rotation import are_unit, of_kind
from .stream import Log, LogError, Progress, Stream

_EXACT = Context(prec=400)  # more digits than a stamp has
_DIGITS = 19  # of the largest int64
_UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}  # powers of ten in ns
_COMMENTS = ("#", "%")
_INTEGER = re.compile(r"[+-]?\d+")
_UNIT = re.compile(r"[\[(]\s*(\w+)\s*[\])]")
_BRACKETS = re.compile(r"[\[(].*")
_BOM = b"\xef\xbb\xbf"
_LONGEST = 1 << 20  # bytes of a line
_CLOSE = 1e-2  # to 1, of quaternions with few decimals


def is_text(head: bytes) -> bool:
    """Whether a file that begins like this is one of ours: numbers, below one line of names."""
    lines = head.removeprefix(_BOM).split(b"\n")
    if len(lines) > 1:
        del lines[-1]  # it may go on
    named = False
    for raw in lines:
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            return False
        if not line or line.startswith(_COMMENTS):
            continue
        cells = line.split(_separator(line))
        if _numbers(cells) is not None:
            return len(cells) > 1
        if named or "\0" in line:
            return False
        named = True
    return False


def _separator(line: str) -> str | None:
    return next((mark for mark in ",;" if mark in line), None)


def _numbers(cells: list[str]) -> list[float] | None:
    """Empty cells are NaN, as in tables with missing values."""
    try:
        return [float(cell) if cell.strip() else np.nan for cell in cells]
    except ValueError:
        return None


class _Table(NamedTuple):
    names: list[str]
    stamps: list[str]
    values: NDArray[np.float64]
    cut: bool


def read(
    path: Path,
    form: str,
    *,
    log_time: bool = False,
    episode: str | None = None,
    progress: Progress | None = None,
) -> Log:
    """Open a text log; all of it is read."""
    if episode is not None:
        raise LogError(f"{path} is {form}, which has no episodes to choose from")
    try:
        table = _table(path)
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror or error}") from error
    notes = []
    if table.cut:
        notes.append(f"{path} ends in the middle of a line, which is left out")
    unit, said = _unit(table)
    if not said and unit == "ns":
        notes.append(f"{path}: its stamps are integers, so taken as ns")
    times = _nanoseconds(path, table.stamps, _UNITS[unit])
    return Log(path, form, {path.stem: _stream(path, table, times)}, notes=tuple(notes))


def _table(path: Path) -> _Table:
    names: list[str] = []
    stamps: list[str] = []
    values = array("d")
    columns, separator = 0, None
    size, done, cut = path.stat().st_size, 0, False
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(_LONGEST):
            number, done = number + 1, done + len(raw)
            ends = raw.endswith(b"\n")
            try:
                line = raw.removeprefix(_BOM if number == 1 else b"").decode().strip()
            except UnicodeDecodeError as error:
                raise LogError(
                    f"{path} is damaged: line {number} has bytes that are no text"
                ) from error
            if not line or line.startswith(_COMMENTS):
                if not stamps and line:
                    names = _names(line.lstrip("#% "))
                continue
            if not columns:
                separator = _separator(line)
            cells = line.split(separator)
            numbers = _numbers(cells)
            if numbers is None and not stamps and not columns:
                names, columns = cells, len(cells)
                continue
            if not stamps:
                columns = len(cells)
            if len(cells) != columns or numbers is None or "_" in line:
                end = ", and there it ends: it is truncated" if done == size and not ends else ""
                found = f"{len(cells)} columns" if len(cells) != columns else "what is no number"
                raise LogError(
                    f"{path}: line {number} has {found}, expected {columns} numbers{end}"
                )
            if not ends:
                cut = True  # even a whole number may lack its last digits
                continue
            stamps.append(cells[0].strip())
            values.extend(numbers[1:])
    if not stamps:
        raise LogError(f"{path} has no samples: nothing to read")
    names = [name.strip() for name in names]
    if len(names) != columns:
        names = []
    return _Table(names, stamps, np.frombuffer(values).reshape(len(stamps), columns - 1), cut)


def _names(comment: str) -> list[str]:
    return comment.split(_separator(comment))


def _unit(table: _Table) -> tuple[str, bool]:
    """The unit of the stamps, and whether the file says so."""
    if table.names and (named := _UNIT.search(table.names[0])) and named[1] in _UNITS:
        return named[1], True
    return ("ns" if all(map(_INTEGER.fullmatch, table.stamps)) else "s"), False


def _nanoseconds(path: Path, stamps: list[str], power: int) -> NDArray[np.int64]:
    times = array("q")
    for i, stamp in enumerate(stamps):
        try:
            exact = Decimal(stamp).scaleb(power, _EXACT)
            if exact.adjusted() >= _DIGITS:
                raise OverflowError
            times.append(int(exact.to_integral_value(ROUND_HALF_EVEN, _EXACT)))
        except (ArithmeticError, ValueError) as error:
            raise LogError(f"{path}: stamp {i + 1} is {stamp!r}, expected a time") from error
    return np.frombuffer(times, np.int64)


def _stream(path: Path, table: _Table, times: NDArray[np.int64]) -> Stream:
    names = [_BRACKETS.sub("", name).strip() for name in table.names[1:]]
    values = table.values
    if len(names) == 7 and names[3].lower().endswith("w") and names[6].lower().endswith("z"):
        order = [0, 1, 2, 4, 5, 6, 3]
        values, names = values[:, order], [names[i] for i in order]
    kind = "vector"
    if values.shape[1] == 7 and are_unit(values[:, 3:], _CLOSE):
        kind = "pose_xyz_quat_xyzw"
    elif values.shape[1] == 6 and are_unit(values[:, 2:], _CLOSE):
        raise LogError(f"{path} has poses without stamps: put a column of them before x")
    return Stream(
        name=path.stem,
        times=times,
        rows=values,
        kind=kind,
        rotation=of_kind(kind, values.shape[1:], values.dtype),
        fields=tuple(names) or None,
        attrs={"type": "text"},
    )
