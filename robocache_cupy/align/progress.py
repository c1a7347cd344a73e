"""How far it is, on a terminal, and how long it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..logs.stream import require

_PATIENCE = 1.0  # seconds without a bar


class Stopwatch:
    """Seconds spent in its blocks."""

    seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._started


class Bar:
    """A progress bar on stderr, if that is a terminal and the work takes longer than a second."""

    def __init__(self) -> None:
        console = require("rich.console").Console(stderr=True)
        self._console = console if console.is_terminal else None
        self._bar: Any = None
        self._started = time.monotonic()
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, what: str, done: float, total: float | None) -> None:
        """`done` of `total` of the work called `what`; of a total that is not known: None."""
        if self._console is None or time.monotonic() - self._started < _PATIENCE:
            return
        if self._bar is None:
            self._bar = require("rich.progress").Progress(console=self._console, transient=True)
            self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what)
        self._bar.update(self._tasks[what], completed=done, total=total)

    @contextmanager
    def meanwhile(self, what: str) -> Iterator[None]:
        """Say what the block does if that takes longer than a second."""
        timer = threading.Timer(_PATIENCE, self.show, (what, 0, None))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # lest it begin to show when all is done
            if what in self._tasks:
                self._bar.remove_task(self._tasks.pop(what))
