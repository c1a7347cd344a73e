"""The logger ``robocache_cupy``. It is silent until the application, or `config`, wants to hear."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger(__package__.partition(".")[0])
logger.addHandler(logging.NullHandler())


@contextlib.contextmanager
def compiling(what: str, backend: str) -> Iterator[None]:
    """Tell how long the compilation of a kernel took."""
    start = time.perf_counter()
    yield
    logger.debug("compiled %s for %s in %.2f s", what, backend, time.perf_counter() - start)


def planning(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    """The function that makes the plans of an op, and tells of each."""

    @functools.wraps(make)
    def made(*given: Any) -> Any:
        start = time.perf_counter()
        plan = make(*given)
        if logger.isEnabledFor(logging.DEBUG):
            arrays = given[0] if type(given[0]) is tuple else given
            shapes = [f"{x.dtype} {x.shape}" for x in arrays if hasattr(x, "strides")]
            took = 1e6 * (time.perf_counter() - start)
            logger.debug("planned %s of %s in %.0f us", name, ", ".join(shapes), took)
        return plan

    return made
