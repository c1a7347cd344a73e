"""What the HDF5 layouts share: opening the file, and samples that stay in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stream import LogError, one_line, require


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """The opened file; whatever the library makes of a damaged one becomes a LogError."""
    h5py = require("h5py")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except LogError:
        raise
    except Exception as error:  # damage shows as anything, from OSError to UnicodeDecodeError
        raise LogError(
            f"{path} cannot be read as HDF5, so it is truncated, damaged or still being written: "
            f"copy it again ({one_line(error)})"
        ) from error


@dataclass(frozen=True)
class Dataset:
    """Rows that are read when they are sliced. The file is open only for that long."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        with reading(self.path) as file:
            return file[self.name][rows]


def not_numeric(dataset: Any) -> str:
    """Why the samples of a dataset cannot be used, or nothing."""
    if dataset.dtype.kind not in "biuf" or dataset.dtype.itemsize > 8:
        return f"values are {dataset.dtype}, expected bool, integers or floats of up to 64 bits"
    return ""


def text(attribute: Any) -> str:
    """Strings of fixed length come as bytes, those of variable length as str."""
    return attribute.decode() if isinstance(attribute, bytes) else str(attribute)
