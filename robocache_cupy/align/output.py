"""Files that appear when they are complete, and an .npz that is written piece by piece."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .error import CommandError

FIGURES = (".pdf", ".png", ".svg")


@contextmanager
def replacing(output: Path, option: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `output` when the block has ended without an error."""
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        raise CommandError(f"{output} is not a regular file: name another with {option}")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written ({error.strerror or error}): name another file with "
            f"{option}"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def check_npz(path: Path) -> None:
    """A slip of the hand must not cost a log."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror or error})") from error
    if head not in (b"PK", b""):
        raise CommandError(f"{path} is there and no .npz: name another file with -o")


def write_array(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    parts: Iterable[NDArray[Any]],
) -> None:
    """Add an array as `numpy.savez` does, in parts along its first axis: all is never in memory."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).data.cast("B") if part.size else b"")
