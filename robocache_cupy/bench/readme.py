"""``python -m robocache_cupy.bench.readme FILE.json``: the table of README.md, from a saved run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import table
from .machine import name as device_name
from .statistic import geometric_mean
from .table import OURS, median, ratio

BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"
README = Path(__file__).parents[2] / "README.md"
RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str], readme: Path = README) -> int:
    """Put the table of a run between the two marks."""
    if len(argv) != 1:
        print("usage: python -m robocache_cupy.bench.readme FILE.json", file=sys.stderr)
        return 2
    path, text = Path(argv[0]), readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        print(f"{readme}: expected one {BEGIN} and one {END}", file=sys.stderr)
        return 2
    readme.write_text(filled(text, json.loads(path.read_text())))
    return 0


def filled(text: str, report: dict[str, Any]) -> str:
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{markdown(report)}{END}{rest.partition(END)[2]}"


def markdown(report: dict[str, Any]) -> str:
    """Every case with the fastest peer of each, in GPU time and end to end."""
    on = report["machine"]
    gpu = on["device"] == "cuda"
    driver = f", driver {on['driver']}" if gpu else ""
    what = "GPU time by graph replay with a cold L2" if gpu else "wall time"
    lines = [
        f"{device_name(on)}{driver}, {on['date'][:10]}, commit {(on['commit'] or 'unknown')[:12]}; "
        f"a copy moves {_down(report['copy_bytes_per_s'] / 1e9, 4)} GB/s. Microseconds a call, "
        f"{what}; share: of that bandwidth, counting each byte that must move once; in bold where "
        "a peer is faster.",
        "",
    ]
    header = ["case", "ours", "share", "fastest peer", "of ours"]
    header += ["end to end", "fastest peer", "of ours"] if gpu else []
    lines += [_row(header), _row(["---", *(["---:"] * (len(header) - 1))])]
    for case in report["cases"]:
        ours = case["contenders"][OURS]
        share = "-" if "share" not in ours else f"{_down(100 * ours['share'], 3)} %"
        row = [f"`{case['name']}`", _up(median(case, OURS, "cold")), share]
        row += _fastest(case, report, "cold")
        if gpu:
            row += [_up(median(case, OURS, "wall")), *_fastest(case, report, "wall")]
        lines.append(_row(row))
    lines += ["", *_means(report, gpu)]
    lines += [f"Not measured: {x}." for x in table.problems(report)]
    return "\n".join([*lines, ""])


def _means(report: dict[str, Any], gpu: bool) -> list[str]:
    figure = "wall" if gpu else "cold"
    parts = []
    for name, peer in report["peers"].items():
        ratios = [x for case in report["cases"] if (x := ratio(case, name, figure)) is not None]
        mean = geometric_mean(ratios)
        if mean is not None:
            parts.append(f"{peer['title']} {_down(mean, 3)} ({len(ratios)} cases)")
    what = " end to end" if gpu else ""
    return [f"Times ours{what}, geometric means: {', '.join(parts)}.", ""] if parts else []


def _fastest(case: dict[str, Any], report: dict[str, Any], figure: str) -> list[str]:
    times = {name: ratio(case, name, figure) for name in report["peers"]}
    there = {name: x for name, x in times.items() if x is not None}
    if not there:
        return ["-", "-"]
    name = min(there, key=there.__getitem__)
    told = f"{_down(there[name], 3)}x"
    return [report["peers"][name]["title"], f"**{told}**" if there[name] < 1 else told]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _digits(value: float, digits: int, rounded: Any) -> str:
    places = digits - 1 - math.floor(math.log10(value)) if value > 0 else 0
    scaled = rounded(round(value * 10.0**places, 6)) / 10.0**places
    return f"{scaled:.{max(places, 0)}f}"


def _up(value: float | None) -> str:
    """Our times, never rounded in our favour.

    >>> _up(3.4012), _up(1234.5)
    ('3.41', '1240')
    """
    return "-" if value is None else _digits(value, 3, math.ceil)


def _down(value: float, digits: int) -> str:
    """Bandwidth, shares and how many times ours a peer takes, likewise.

    >>> _down(0.9999, 3), _down(12.38, 3)
    ('0.999', '12.3')
    """
    return _digits(value, digits, math.floor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
