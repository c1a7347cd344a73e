"""What a run was made on, and its tables."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

UNITS = {"int64": "int64 ns", "float32": "float32 s", "float64": "float64 s"}
_PACKAGES = ("robocache-cupy", "numpy", "numba", "torch", "triton", "cupy", "cupy-cuda12x",
             "cupy-cuda13x", "jax")  # fmt: skip


def one_line(text: str, limit: int = 160) -> str:
    """The first line that says something.

    >>> one_line("\\n  out of memory\\nmore")
    'out of memory'
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else line[: limit - 3] + "..."


def machine(device: str) -> dict[str, Any]:
    """The device, the versions, the date and the commit."""
    import torch

    found: dict[str, Any] = {
        "device": device,
        "host": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "versions": {},
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "arguments": sys.argv[1:],
        "commit": _commit(),
    }
    for package in _PACKAGES:
        try:
            found["versions"][package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gpu_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cuda": torch.version.cuda,
        }
    return found


def _commit() -> str | None:
    here = str(Path(__file__).parent)
    commit = _output("git", "-C", here, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _output("git", "-C", here, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} with changes" if changed else commit


def _output(*command: str) -> str | None:
    """What a command prints, or None if there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def print_report(report: dict[str, Any]) -> None:
    """The facts that the tables rest on, what failed, and the tables."""
    on, cases = report["machine"], report["cases"]
    names = on.get("gpu", on["host"]), f"torch {on['torch']}"
    versions = [f"{k} {v}" for k, v in on["versions"].items() if k.startswith(("cupy", "triton"))]
    driver = [f"driver {on['driver']}, CUDA {on['cuda']}"] if "driver" in on else []
    print(
        ", ".join([*names, *versions, *driver, on["date"], f"commit {on['commit'] or 'unknown'}"])
    )
    print(f"copy {report['copy']['bytes_per_s'] / 1e9:.4g} GB/s read and written, this run")
    if on["device"] == "cuda":
        empty = report["empty_kernel"]
        print(
            f"empty kernel {empty['us']:.2f} us; alone between two events "
            f"{empty['cold_us']:.2f} us, which every cold figure contains\n"
            "rotating: sets of buffers take turns that together exceed twice the "
            f"{report['cache_bytes'] / 1e6:.0f} MB L2; warm: they do not"
        )
    problems = [
        f"{case['name']}: {name}: {one['problem']}"
        for case in cases
        for name, one in case["gpu"].items()
        if "problem" in one
    ]
    problems += [
        f"{case['name']}: cupy: {case['host']['cupy_problem']}"
        for case in cases
        if "cupy_problem" in case["host"]
    ]
    for problem in problems:
        print(f"FAILED {problem}")
    print_table(*_gpu_table(report))
    if any(case["host"] for case in cases):
        print_table(*_host_table(report))


Table = tuple[str, list[str], list[list[str]]]


def _gpu_table(report: dict[str, Any]) -> Table:
    header = ["case", "clock", "sets", "floor", "ours", "of floor", "again", "cold"]
    for title in report["peers"].values():
        header += [title, "/ ours"]
    rows = []
    for case in report["cases"]:
        gpu, floor = case["gpu"], case["floor_us"]
        ours = gpu["ours"].get("us")
        row = [
            case["name"].rpartition("-")[0], UNITS[case["clock"]],
            f"{case['sets']} {case['buffers']}", _us(floor), _us(ours),
            "-" if ours is None else f"{floor / ours:.0%}",
            _us(gpu["ours"].get("again_us")), _us(gpu["ours"].get("cold_us")),
        ]  # fmt: skip
        for name in report["peers"]:
            row += [_us(gpu[name].get("us")), _ratio(gpu[name].get("us"), ours)]
        rows.append(row)
    what = "GPU" if report["machine"]["device"] == "cuda" else "CPU"
    return f"{what} time, us a call", header, rows


def _host_table(report: dict[str, Any]) -> Table:
    header = ["case", "clock", "ours torch", "torch.add", "ratio", "ours cupy", "cupy x + x",
              "ratio", "new shape", *(n for n in report["peers"])]  # fmt: skip
    rows = []
    for case in report["cases"]:
        host = case["host"]
        torch, add = host.get("ours_torch_us"), host.get("torch_add_us")
        cupy, plus = host.get("ours_cupy_us"), host.get("cupy_add_us")
        rows.append(
            [
                case["name"].rpartition("-")[0], UNITS[case["clock"]],
                _us(torch), _us(add), _ratio(torch, add), _us(cupy), _us(plus), _ratio(cupy, plus),
                _us(host.get("new_shape_us")),
                *(_us(host.get(f"{name}_us")) for name in report["peers"]),
            ]
        )  # fmt: skip
    return "host time, us a call", header, rows


def _us(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 1000 else f"{value:.0f}"


def _ratio(a: float | None, b: float | None) -> str:
    return "-" if a is None or not b else f"{a / b:.2f}x"


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
    console.width = max(console.width, 200)
    console.print(table)
