"""What a run prints."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .machine import name as device_name
from .statistic import geometric_mean

OURS = "ours"
FIGURES = {"cold": "time", "warm": "warm", "wall": "end to end"}


def printed(report: dict[str, Any]) -> None:
    """The facts that the tables rest on, what failed, the tables, and what they come to."""
    print("\n".join(facts(report)))
    for line in problems(report):
        print(line)
    for op in dict.fromkeys(case["op"] for case in report["cases"]):
        print_table(*of_op(report, op))
    if report.get("host"):
        print_table(*host(report))
    if report.get("scaling"):
        print_table(*scaling(report))
    for line in verdict(report):
        print(line)


def facts(report: dict[str, Any]) -> list[str]:
    on = report["machine"]
    parts = [device_name(on)]
    if on.get("driver"):
        parts.append(f"driver {on['driver']}, CUDA {on['cuda']}")
    shown = ("robocache-cupy", "torch", "triton", "jax", "cupy-cuda12x", "cupy-cuda13x", "numba")
    parts += [f"{x} {on['versions'][x]}" for x in shown if x in on["versions"]]
    parts += [on["date"], f"commit {on['commit'] or 'unknown'}"]
    lines = [", ".join(parts)]
    effort = report["effort"]
    lines.append(
        f"copy {report['copy_bytes_per_s'] / 1e9:.4g} GB/s read and written, in this run; "
        f"{effort['seeds']} seeds x {effort['repeats']} repeats, fewer where one takes long"
    )
    if on["device"] == "cuda":
        lines.append(
            f"time: of a call in a replayed CUDA graph, an empty kernel takes "
            f"{report['empty_kernel_us']:.2f} us. Sets of arguments take turns that together "
            f"exceed twice the {report['cache_bytes'] / 1e6:.0f} MB L2, except where a * stands; "
            "warm: the same set again. end to end: from the call until the result is there"
        )
    return lines


def problems(report: dict[str, Any]) -> list[str]:
    """What was not measured, and why."""
    lines = [
        f"missing: {peer['title']} ({peer['missing']})"
        for peer in report["peers"].values()
        if "missing" in peer
    ]
    for case in report["cases"] + [c for x in report.get("scaling", []) for c in x["cases"]]:
        for name, one in case["contenders"].items():
            if "problem" in one:
                lines.append(f"FAILED {case['name']}: {name}: {one['problem']}")
    lines += [
        f"FAILED host: {one['framework']}: {one['problem']}"
        for one in report.get("host", [])
        if "problem" in one
    ]
    if report.get("stopped"):
        lines.append(f"stopped: {report['stopped']}")
    return lines


def verdict(report: dict[str, Any]) -> Iterator[str]:
    """Geometric means over all cases, and every case where a peer was faster by more than 3 %."""
    for figure in ("cold", "wall"):
        what = FIGURES[figure]
        for name, peer in report["peers"].items():
            ratios = [x for case in report["cases"] if (x := ratio(case, name, figure)) is not None]
            mean = geometric_mean(ratios)
            if mean is not None:
                yield (
                    f"{what}: {peer['title']} takes {mean:.2f} times ours, geometric mean of "
                    f"{len(ratios)} cases"
                )
        for case in report["cases"]:
            for name in report["peers"]:
                found = ratio(case, name, figure)
                if found is not None and found < 1 / 1.03:
                    yield f"LOST {what}: {case['name']}: {name} takes {found:.2f} times ours"


def median(case: dict[str, Any], name: str, figure: str) -> float | None:
    found = case["contenders"].get(name, {}).get(figure)
    return None if found is None else float(found["median"])


def ratio(case: dict[str, Any], name: str, figure: str = "cold") -> float | None:
    """How many times ours a peer takes."""
    ours, peer = median(case, OURS, figure), median(case, name, figure)
    return None if ours is None or peer is None else peer / ours


Table = tuple[str, list[str], list[list[str]]]


def of_op(report: dict[str, Any], op: str) -> Table:
    cases = [case for case in report["cases"] if case["op"] == op]
    names = [n for n in report["peers"] if any(n in case["contenders"] for case in cases)]
    gpu = report["machine"]["device"] == "cuda"
    header = ["case", "", "floor", "ours", "+-", "of floor", "GB/s", "warm"]
    header += ["host", "end to end"] if gpu else []
    for name in names:
        header += [report["peers"][name]["title"], "/ ours"] + (["end to end"] if gpu else [])
    rows = []
    for case in cases:
        ours = case["contenders"].get(OURS, {})
        time = ours.get("cold", {})
        row = [
            case["name"], "" if case["cold"] else "*",
            _us(case["floor_us"]), _us(time.get("median")),
            "-" if not time else f"{(time['high'] - time['low']) / 2:.2g}",
            "-" if "share" not in ours else f"{ours['share']:.1%}",
            "-" if "gb_per_s" not in ours else f"{ours['gb_per_s']:.0f}",
            _us(median(case, OURS, "warm")),
        ]  # fmt: skip
        row += [_us(ours.get("host_us")), _us(median(case, OURS, "wall"))] if gpu else []
        for name in names:
            row += [_us(median(case, name, "cold")), _times(ratio(case, name))]
            row += [_times(ratio(case, name, "wall"))] if gpu else []
        rows.append(row)
    return f"{op}: {'GPU' if gpu else 'CPU'} time, us a call", header, rows


def host(report: dict[str, Any]) -> Table:
    lines = [one for one in report["host"] if "us" in one]
    plus = {one["framework"]: one["us"] for one in lines if one["call"] == "x + x"}
    rows = [
        [one["framework"], one["call"], _us(one["us"]), _times(one["us"] / plus[one["framework"]])]
        for one in lines
    ]
    return "host time, us a warm call", ["framework", "call", "us", "/ x + x"], rows


def scaling(report: dict[str, Any]) -> Table:
    names = [n for n in report["peers"] if n in _names(report["scaling"])]
    header = ["grows", "case", "floor", "ours", "of floor"]
    header += [report["peers"][name]["title"] for name in names]
    rows = []
    for line in report["scaling"]:
        for case in line["cases"]:
            share = case["contenders"].get(OURS, {}).get("share")
            rows.append(
                [
                    f"{line['axis']} of {line['op']}", case["name"], _us(case["floor_us"]),
                    _us(median(case, OURS, "cold")), "-" if share is None else f"{share:.1%}",
                    *(_us(median(case, name, "cold")) for name in names),
                ]
            )  # fmt: skip
    return "growth, us a call", header, rows


def _names(scaling: Sequence[dict[str, Any]]) -> set[str]:
    return {name for line in scaling for case in line["cases"] for name in case["contenders"]}


def _us(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 1000 else f"{value:.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def save_csv(report: dict[str, Any], path: Path) -> None:
    """A line for each figure of each contender."""
    lines = [("", report["cases"])]
    lines += [(line["axis"], line["cases"]) for line in report.get("scaling", [])]
    statistics = ("median", "mean", "std", "low", "high", "p99", "samples")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("grows", "case", "contender", "figure", *statistics, "floor_us", "gb_per_s", "share",
             "host_us", "problem")
        )  # fmt: skip
        for axis, cases in lines:
            for case in cases:
                for name, one in case["contenders"].items():
                    rest = (case["floor_us"], one.get("gb_per_s"), one.get("share"),
                            one.get("host_us"), one.get("problem"))  # fmt: skip
                    figures = [figure for figure in FIGURES if figure in one]
                    for figure in figures:
                        values = [one[figure][x] for x in statistics]
                        writer.writerow((axis, case["name"], name, figure, *values, *rest))
                    if not figures:
                        blank = ("",) * (1 + len(statistics))
                        writer.writerow((axis, case["name"], name, *blank, *rest))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first two columns are words and whose others are numbers."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        lines = [header, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        print(f"\n{title}")
        for line in lines:
            cells = zip(line, widths, strict=True)
            print("  ".join(x.ljust(w) if i < 2 else x.rjust(w) for i, (x, w) in enumerate(cells)))
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # Where the output is no terminal rich would cut a table at 80 columns.
    console = Console(markup=False, emoji=False, highlight=False)
    console.width = max(console.width, 240)
    console.print(table)
