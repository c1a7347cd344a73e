"""Where samples wait that are too many for the memory."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array

from .stream import LogError


class Spool:
    """A file without a name in the directory for temporary files; it goes when this object does.

    Nothing is created before the first block, so a small log never touches the disk.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._end = 0

    def add(self, block: array[int] | array[float]) -> int:
        """Append a block; the result is where it lies."""
        start, rest = self._end, memoryview(block).cast("B")
        try:
            while rest:
                written = os.pwrite(self._opened(), rest, self._end)
                self._end += written
                rest = rest[written:]
        except OSError as error:
            raise LogError(
                f"no room for the samples in {tempfile.gettempdir()} "
                f"({error.strerror or error}): set TMPDIR to a directory with more"
            ) from error
        return start

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` on."""
        parts = []
        while size:
            part = os.pread(self._opened(), size, start)
            if not part:
                raise LogError(f"{tempfile.gettempdir()} has lost samples: align the log again")
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return b"".join(parts)

    def _opened(self) -> int:
        if self._file is None:
            self._file, name = tempfile.mkstemp(prefix="robocache-")
            os.unlink(name)
            weakref.finalize(self, os.close, self._file)
        return self._file
