"""Settings of the package: what they are, and how to change them for good or for a while.

`set_config` changes them for the whole process. `override` changes them for the ``with`` block of
one thread or one asyncio task: other threads, those started inside the block included, go by the
settings of the process. When the package is imported, these environment variables are read once:
``ROBOCACHE_BACKEND``, ``ROBOCACHE_PROFILING``, ``ROBOCACHE_NUMERICAL_CHECKS`` and
``ROBOCACHE_LOG_LEVEL``. While all settings are as in `Config`, they cost a call nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from ._core.log import logger
from ._table import html_table, print_table, text_table

__all__ = ["Config", "MismatchError", "get_config", "override", "print_config", "set_config"]

_HEADINGS = ("setting", "value", "environment")
_ENVIRONMENT = {
    "backend": "ROBOCACHE_BACKEND",
    "enable_profiling": "ROBOCACHE_PROFILING",
    "numerical_checks": "ROBOCACHE_NUMERICAL_CHECKS",
    "log_level": "ROBOCACHE_LOG_LEVEL",
}
_BACKENDS = ("auto", "cuda", "numba")
_LEVELS = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SWITCH = {"1": True, "true": True, "on": True, "yes": True,
           "0": False, "false": False, "off": False, "no": False}  # fmt: skip


class MismatchError(ArithmeticError):
    """Both backends ran a call, and their results differ."""


class Config(NamedTuple):
    """The settings of the package. It prints as a table.

    See `set_config` for what they mean.
    """

    backend: str = "auto"  #: that of calls which do not name one
    enable_profiling: bool = False  #: NVTX ranges named after the ops
    numerical_checks: bool = False  #: run both backends, and compare
    log_level: str = "NOTSET"  #: of the logger "robocache_cupy"

    def __repr__(self) -> str:
        return text_table(_HEADINGS, self._rows(), left=3)

    def _repr_html_(self) -> str:
        return html_table(_HEADINGS, self._rows(), left=3)

    def _rows(self) -> list[tuple[str, Any, str]]:
        return [(name, value, _ENVIRONMENT[name]) for name, value in self._asdict().items()]


_lock = threading.RLock()
_process = Config()
_overrides: ContextVar[tuple[dict[str, Any], ...]] = ContextVar("robocache_cupy", default=())
_active: list[Config] = []  # what the overrides of all threads come to


def get_config() -> Config:
    """The settings that hold here and now.

    Returns
    -------
    Config
        A named tuple: ``backend``, ``enable_profiling``, ``numerical_checks``, ``log_level``.

    Examples
    --------
    >>> get_config().backend
    'auto'
    """
    config = _process
    for changes in _overrides.get():
        config = config._replace(**changes)
    return config


def set_config(
    *,
    backend: str | None = None,
    enable_profiling: bool | None = None,
    numerical_checks: bool | None = None,
    log_level: str | int | None = None,
) -> Config:
    """Change settings for the whole process. What is left out stays as it is.

    Parameters
    ----------
    backend : {"auto", "cuda", "numba"}, optional
        What ``backend="auto"`` of an op means: with "auto" it runs where the arrays lie, the other
        two copy the arrays there and the result back, if need be.
    enable_profiling : bool, optional
        Put a range of NVTX, named after the op, around every call, for Nsight Systems to show.
        Takes the package ``nvtx``.
    numerical_checks : bool, optional
        Run every call on the other backend too and raise `MismatchError` where the results
        differ. Slow: it copies all arrays and waits for the GPU. Results must be equal, those of
        rotations to within 8 units in the last place of the largest value; float32 results below
        the smallest normal number count as 0, and calls with ``deterministic=False``, with
        datetime64 arrays, inside ``jax.jit``, ``torch.compile`` or a CUDA graph are not compared.
        Without a CUDA device there is nothing to compare with, which the log says once.
    log_level : {"NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}, optional
        The level of the logger "robocache_cupy", as a name or a number of `logging`. "NOTSET"
        leaves it to the application, and an application without logging hears nothing. With any
        other level, records that no handler of the application takes go to stderr. DEBUG tells of
        plans made, kernels compiled and calls that cross over to the other backend.

    Returns
    -------
    Config
        The settings of the process after the change.

    Raises
    ------
    ValueError, TypeError
        Naming the setting, what came and what was expected.
    ImportError
        When profiling takes a package that is missing.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.config.set_config(backend="numba").backend
    'numba'
    >>> rc.config.set_config(backend="auto").backend
    'auto'
    """
    global _process
    changes = _checked(backend, enable_profiling, numerical_checks, log_level)
    with _lock:
        _process = _process._replace(**changes)
        _apply()
        return _process


@contextlib.contextmanager
def override(
    *,
    backend: str | None = None,
    enable_profiling: bool | None = None,
    numerical_checks: bool | None = None,
    log_level: str | int | None = None,
) -> Iterator[Config]:
    """Change settings for a ``with`` block, in this thread or asyncio task alone.

    Overrides nest: the inner one wins, and what it leaves out stays as it is outside.

    Parameters
    ----------
    backend, enable_profiling, numerical_checks, log_level
        As in `set_config`.

    Yields
    ------
    Config
        The settings that hold inside the block.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `set_config` does.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> with rc.config.override(backend="numba"):
    ...     rc.get_config().backend
    'numba'
    >>> rc.get_config().backend
    'auto'
    """
    changes = _checked(backend, enable_profiling, numerical_checks, log_level)
    token = _overrides.set((*_overrides.get(), changes))
    config = get_config()
    with _lock:
        _active.append(config)
        _apply()
    try:
        yield config
    finally:
        _overrides.reset(token)
        with _lock:
            del _active[next(i for i, x in enumerate(_active) if x is config)]
            _apply()


def print_config() -> None:
    """Print the settings that hold here and now, as a table.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.config.print_config()  # doctest: +ELLIPSIS
    robocache_cupy...
    """
    print_table("robocache_cupy: settings", _HEADINGS, get_config()._rows())


def wants_calls() -> bool:
    """Does any setting, of the process or of a block, concern the calls of ops?"""
    return any(
        x.backend != "auto" or x.enable_profiling or x.numerical_checks
        for x in (_process, *_active)
    )


def _apply() -> None:
    from ._core import observe

    observe.update()
    levels = [getattr(logging, x.log_level) for x in (_process, *_active)]
    given = list(filter(None, levels))
    logger.setLevel(min(given, default=logging.NOTSET))
    if given and _stderr not in logger.handlers:
        logger.addFilter(_audible)
        logger.addHandler(_stderr)
    elif not given:
        logger.removeFilter(_audible)
        logger.removeHandler(_stderr)


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _audible(record: logging.LogRecord) -> bool:
    """The logger has the lowest level that any thread wants: is this one's as low?"""
    level = getattr(logging, get_config().log_level)
    if level == logging.NOTSET and logger.parent is not None:
        level = logger.parent.getEffectiveLevel()
    return bool(record.levelno >= level)


class _Stderr(logging.Handler):
    """Writes what nobody else does."""

    def emit(self, record: logging.LogRecord) -> None:
        handlers = [*logger.handlers]
        if logger.propagate and logger.parent is not None:
            handlers += logger.parent.handlers
        if all(x is self or isinstance(x, logging.NullHandler) for x in handlers):
            print(self.format(record), file=sys.stderr)


_stderr = _Stderr()
_stderr.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))


def _checked(backend: Any, profiling: Any, checks: Any, level: Any) -> dict[str, Any]:
    """The settings that are given, or what is wrong with them."""
    changes: dict[str, Any] = {}
    if backend is not None:
        if backend not in _BACKENDS:
            raise ValueError(f"backend is {backend!r}, expected one of {_words(_BACKENDS)}")
        changes["backend"] = backend
    for name, value in (("enable_profiling", profiling), ("numerical_checks", checks)):
        if value is None:
            continue
        if not isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}, expected True or False")
        changes[name] = value
    if profiling:
        import_nvtx()
    if level is not None:
        known = level.upper() if isinstance(level, str) else logging.getLevelName(level)
        if known not in _LEVELS:
            raise ValueError(f"log_level is {level!r}, expected one of {_words(_LEVELS)}")
        changes["log_level"] = known
    return changes


def _words(allowed: tuple[str, ...]) -> str:
    return ", ".join(map(repr, allowed))


def import_nvtx() -> Any:
    """The package nvtx, or a sentence that says how to get it."""
    try:
        import nvtx
    except ImportError as e:
        raise ImportError(f"enable_profiling takes the package nvtx: pip install nvtx ({e})") from e
    return nvtx


def from_environment() -> None:
    """Take over what the environment says; of a wrong value, warn and leave the setting as is."""
    for name, variable in _ENVIRONMENT.items():
        text = os.environ.get(variable)
        if not text:
            continue
        value: Any = text.strip()
        try:
            if name in ("enable_profiling", "numerical_checks"):
                if value.lower() not in _SWITCH:
                    raise ValueError(f"expected one of {', '.join(_SWITCH)}")
                value = _SWITCH[value.lower()]
            elif name == "backend":
                value = value.lower()
            set_config(**{name: value})
        except (ValueError, ImportError) as e:
            warnings.warn(f"{variable}={text} is left aside: {e}", stacklevel=2)
