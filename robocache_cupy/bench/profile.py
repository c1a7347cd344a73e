"""``python -m robocache_cupy.bench.profile [OP ...]``: what the kernels of a case spend time on.

Nsight Compute (ncu) tells of each kernel how much of the memory's peak bandwidth it reaches, how
many warps are resident, and what they wait for most; Nsight Systems (nsys) writes a trace.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case import Case
from .published import KINDS, select
from .table import print_table

_TIME = "gpu__time_duration.sum"
_DRAM = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
_WARPS = "sm__warps_active.avg.pct_of_peak_sustained_active"
_REGISTERS = "launch__registers_per_thread"
_STALLS = {
    f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio": reason
    for reason in (
        "barrier", "branch_resolving", "dispatch_stall", "drain", "imc_miss", "lg_throttle",
        "long_scoreboard", "math_pipe_throttle", "membar", "mio_throttle", "misc",
        "no_instruction", "not_selected", "short_scoreboard", "sleeping", "tex_throttle", "wait",
    )
}  # fmt: skip
_HEADER = ["case", "kernel", "us", "DRAM, % of peak", "resident warps, %", "registers",
           "waits most for", "warps"]  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 also where there is no profiler, which a sentence then says."""
    parser = argparse.ArgumentParser("python -m robocache_cupy.bench.profile")
    parser.add_argument("op", nargs="*", help="as for robocache bench; default: its quick cases")
    parser.add_argument("--trace", type=Path, default=Path("trace"), help="of nsys; default: trace")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    try:
        cases = select(arguments.op, quick=True)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.child:
        _replayed(cases)
        return 0
    if not _gpu():
        print("no CUDA device here: nothing to profile")
        return 0
    return max(_ncu(cases), _nsys(cases, arguments.trace))


def _gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _tool(name: str) -> str | None:
    usual = Path("/usr/local/cuda/bin", name)
    return shutil.which(name) or (str(usual) if usual.exists() else None)


def _child(cases: Sequence[Case]) -> list[str]:
    return [sys.executable, "-m", "robocache_cupy.bench.profile", "--child"] + [
        case.name for case in cases
    ]


def _replayed(cases: Sequence[Case]) -> None:
    """One call of each case inside the profiler's range, after one that compiles."""
    import torch

    from .draw import Draw

    with torch.no_grad():
        for case in cases:
            kind = KINDS[case.kind]
            draw = Draw("cuda", 0)
            first, second = kind.draw(case, draw), kind.draw(case, draw)
            call = kind.ours(case)
            call(*first)
            torch.cuda.synchronize()
            torch.cuda.profiler.start()
            torch.cuda.nvtx.range_push(case.name)
            call(*second)
            torch.cuda.nvtx.range_pop()
            torch.cuda.synchronize()
            torch.cuda.profiler.stop()


def _ncu(cases: Sequence[Case]) -> int:
    tool = _tool("ncu")
    if tool is None:
        print("no table of kernels: Nsight Compute (ncu) is not installed")
        return 0
    metrics = ",".join([_TIME, _DRAM, _WARPS, _REGISTERS, *_STALLS])
    rows = []
    for case in cases:  # a process each, so that every kernel is known to be of its case
        # The clocks of the device may be shared with others, so they are left as they are.
        done = subprocess.run(
            [tool, "--clock-control", "none", "--profile-from-start", "off", "--csv", "--page",
             "raw", "--print-units", "base", "--metrics", metrics, *_child([case])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = kernels(done.stdout)
        rows += [[case.name, *row] for row in found]
        if done.returncode != 0 or not found:
            # ncu tells its own errors on stdout, those of the program come on stderr.
            told = [x for x in (done.stdout + done.stderr).splitlines() if x.strip()]
            errors = [x for x in told if "==ERROR==" in x] or told[-1:] or ["no kernel was seen"]
            print(f"FAILED {case.name}: {errors[0].strip()}")
    if rows:
        print_table("kernels of one call", _HEADER, rows)
    return int(not rows)


def kernels(text: str) -> list[list[str]]:
    """Of what `ncu --csv --page raw` prints, a row for each kernel: its name, microseconds, shares
    of the peak bandwidth and of the resident warps, registers, and the longest wait."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    _units, *found = csv.DictReader(io.StringIO("\n".join(lines[start:])))
    return [_kernel(row) for row in found]


def _kernel(row: dict[str, Any]) -> list[str]:
    def number(name: str) -> float:
        try:
            return float(row[name].replace(",", ""))
        except (KeyError, ValueError, AttributeError):
            return float("nan")

    waits = {reason: number(name) for name, reason in _STALLS.items() if name in row}
    known = {reason: x for reason, x in waits.items() if x == x}
    most = max(known, key=known.__getitem__) if known else "-"
    name = row.get("Kernel Name", "").partition("(")[0]
    return [
        name if len(name) <= 60 else f"{name[:57]}...",
        f"{number(_TIME) / 1e3:.2f}", f"{number(_DRAM):.1f}", f"{number(_WARPS):.1f}",
        f"{number(_REGISTERS):.0f}", most.replace("_", " "),
        f"{known[most]:.2f}" if known else "-",
    ]  # fmt: skip


def _nsys(cases: Sequence[Case], trace: Path) -> int:
    tool = _tool("nsys")
    if tool is None:
        print("no trace: Nsight Systems (nsys) is not installed")
        return 0
    done = subprocess.run(
        [tool, "profile", "--force-overwrite", "true", "--trace", "cuda,nvtx",
         "--capture-range", "cudaProfilerApi", "--capture-range-end", "repeat",
         "--output", str(trace), *_child(cases)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    made = sorted(trace.parent.glob(f"{trace.name}*.nsys-rep"))
    if done.returncode != 0 or not made:
        lines = [x for x in (done.stdout + done.stderr).splitlines() if x.strip()]
        print(f"FAILED trace: {lines[-1].strip() if lines else 'nsys made none'}")
        return 1
    print(f"trace: {', '.join(map(str, made))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
