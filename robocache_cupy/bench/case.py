"""What a case is: an op with the sizes and dtypes of its arguments; and what is known of an op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .draw import Draw

SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "uint8": "u8",
         "uint16": "u16", "int32": "i32"}  # fmt: skip
LONG = {short: name for name, short in SHORT.items()}

Call = Callable[..., Any]
Arguments = tuple[Any, ...]  # torch tensors, in the order in which ours and all peers take them


class Wrong(Exception):
    """A result that the oracle does not give."""


class Case(NamedTuple):
    """One line of the bench."""

    kind: str  # in the table of kinds; it begins with the op
    sizes: tuple[int, ...]
    dtype: str
    tag: str = ""  # the dtype of the clock, or what the cloud is like
    quick: bool = False  # also in a quick run

    @property
    def name(self) -> str:
        """
        >>> Case("resample", (8, 250, 250, 128), "bfloat16", "int64").name
        'resample-8x250x250x128-bf16-int64'
        """
        parts = (self.kind, "x".join(map(str, self.sizes)), SHORT[self.dtype], self.tag)
        return "-".join(filter(None, parts))

    @property
    def op(self) -> str:
        return self.kind.partition("-")[0]

    @property
    def variant(self) -> str:
        return self.kind.partition("-")[2]


class Kind(NamedTuple):
    """How the cases of one op are made and judged."""

    axes: str  # what the sizes are, a letter each
    draw: Callable[[Case, Draw], Arguments]
    ours: Callable[[Case], Call]
    floor: Callable[[Case, Arguments], int]  # bytes that must move, each once
    # The largest error of a result, as a list of tensors, or Wrong. With True every bit, and with
    # False what another order of additions or a fused multiply-add may change is let pass.
    check: Callable[[Case, Arguments, list[Any], bool], float]
    dtypes: tuple[str, ...] = ("float32",)
    bound: str = "bytes"  # what limits it: bytes, or rounds that follow one another
