"""``python -m robocache_cupy.bench.callgrind``: instructions that the ops take on the CPU.

A clock says little on a shared machine, and CI has no GPU. The number of instructions, which
valgrind counts, is the same in every run of the same code: it is compared with a stored baseline,
as a ratio. Numba compiles for a generic x86-64 here, so that the processor does not matter; another
version of Numba does, and takes a new baseline (``--update``).
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BASELINE = Path(__file__).parent / "results" / "callgrind.json"
ALLOWED = 1.05

_REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_ZERO_STATS; CALLGRIND_START_INSTRUMENTATION; }
void stop(const char *name) { CALLGRIND_STOP_INSTRUMENTATION; CALLGRIND_DUMP_STATS_AT(name); }
"""


def calls() -> dict[str, Callable[[], Any]]:
    """The ops that are counted, of sizes where the kernels take most of the instructions."""
    import robocache_cupy as rc

    rng = np.random.default_rng(0)
    src = np.cumsum(rng.integers(1_000_000, 3_000_000, (4, 200)), 1)
    tgt = np.sort(rng.integers(0, 400_000_000, (4, 100)), 1)
    data = rng.standard_normal((4, 200, 32)).astype(np.float32)
    few = rng.standard_normal((4, 200, 7)).astype(np.float32)
    points = rng.uniform(-1, 1, (1, 5000, 3)).astype(np.float32)
    depth = rng.integers(300, 3000, (1, 1, 60, 80)).astype(np.uint16)
    lens, grid = (70.0, 70.0, 40.0, 30.0), (32, 2 / 32, -1.0)
    offsets, anchors = np.arange(0, 801, 100), rng.integers(0, 800, 64)
    packed = data.reshape(800, 32)
    scaled = rc.normalization({"mean": np.zeros(32), "std": np.ones(32)})
    streams = {"a": (data, src), "b": (few, src)}
    turns = rng.standard_normal((4, 200, 4)).astype(np.float32)
    at, known = rng.uniform(-1, 51, (4, 500)), np.sort(rng.uniform(0, 50, (4, 100)), 1)
    table = [x.astype(np.float32) for x in (at, known, rng.standard_normal((4, 100)))]
    return {
        "resample": lambda: rc.resample_trajectories(data, src, tgt),
        "fuse": lambda: rc.fuse_multimodal(streams, tgt),
        "windows": lambda: rc.sample_windows(packed, offsets, anchors, delta_indices=range(16)),
        "normalize": lambda: rc.normalize(data, scaled),
        "interp": lambda: rc.interp(*table),
        "slerp": lambda: rc.slerp(turns, turns[:, ::-1], 0.3),
        "poses": lambda: rc.interpolate_quaternions(turns, src, tgt),
        "asof": lambda: rc.asof_index(src, tgt),
        "pchip": lambda: rc.resample_trajectories(data, src, tgt, method="pchip"),
        "mean": lambda: rc.resample_trajectories(data, src, tgt, method="mean"),
        "voxelize": lambda: rc.voxelize_point_cloud(points, *grid),
        "voxelize count": lambda: rc.voxelize_point_cloud(points, *grid, reduce="count"),
        "voxelize mean": lambda: rc.voxelize_point_cloud(points, *grid, reduce="mean"),
        "depth to voxels": lambda: rc.depth_to_voxels(depth, lens, None, *grid),
        "farthest points": lambda: rc.farthest_point_sample(points, 32),
        "voxelize sparse": lambda: rc.voxelize_sparse(points, *grid, max_voxels=5000),
    }


def counted(library: str | None) -> None:
    """In the counted process: each call twice to compile and plan, then between two marks."""
    marks = None if library is None else ctypes.CDLL(library)
    for name, call in calls().items():
        call()
        call()
        if marks is not None:
            marks.start()
            call()
            marks.stop(name.encode())


def count() -> dict[str, int]:
    """Instructions by call."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "marks.c"), Path(folder, "marks.so")
        source.write_text(_REQUESTS)
        compiler = shutil.which("cc") or shutil.which("gcc") or "g++"
        _run(compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source))
        environment = {
            **os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "",
            "NUMBA_CACHE_DIR": str(_cache()),
            "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        environment.pop("NUMBA_BOUNDSCHECK", None)
        this = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
        _run(*this, "--child", env=environment)  # compiles, at full speed
        _run(
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--smc-check=all-non-file",
            f"--callgrind-out-file={folder}/out", *this, "--child", str(library), env=environment,
        )  # fmt: skip
        texts = [path.read_text() for path in Path(folder).glob("out.*")]
    return parsed(texts)


def _cache() -> Path:
    """For each state of the sources: Numba does not see changes in what a function calls."""
    package = Path(__file__).parents[1]
    sources = [*sorted(package.glob("_cpu/*.py")), package / "_core" / "table.py"]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return Path(tempfile.gettempdir()) / f"robocache-callgrind-{state[:16]}"


def parsed(dumps: Sequence[str]) -> dict[str, int]:
    """Of callgrind's files, one for each mark: what stands in the mark, and the total.

    >>> parsed(["desc: Trigger: Client Request: asof\\nevents: Ir\\n1 2\\ntotals: 123\\n"])
    {'asof': 123}
    """
    found = {}
    for text in dumps:
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.M)
        total = re.search(r"^totals: (\d+)$", text, re.M)
        if name is not None and total is not None:
            found[name[1]] = int(total[1])
    return found


def _run(*command: str, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr[-2000:]}")


def versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in ("numba", "llvmlite", "numpy")}
    return {"machine": platform.machine(), "python": platform.python_version()[:4], **packages}


def compared(now: Mapping[str, int], before: Mapping[str, int]) -> tuple[list[str], bool]:
    """A line for each call, and whether all are as before, or fewer.

    >>> compared({"asof": 110}, {"asof": 100})
    (['asof: 110 instructions, 1.100 times the baseline: MORE'], False)
    """
    lines, fine = [], True
    for name, number in now.items():
        if name not in before:
            lines.append(f"{name}: {number} instructions, not in the baseline")
            continue
        ratio = number / before[name]
        more = ratio > ALLOWED
        fine = fine and not more
        told = f"{ratio:.3f} times the baseline{': MORE' if more else ''}"
        lines.append(f"{name}: {number} instructions, {told}")
    return lines, fine


def main(argv: Sequence[str]) -> int:
    """The exit code: 1 where a call takes more than 5 % more instructions than the baseline."""
    parser = argparse.ArgumentParser("python -m robocache_cupy.bench.callgrind")
    parser.add_argument("--update", action="store_true", help="make this the baseline")
    parser.add_argument("--child", nargs="?", const="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child is not None:
        counted(arguments.child or None)
        return 0
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is not installed")
        return 0
    baseline: dict[str, Any] = {"versions": None, "instructions": {}}
    if BASELINE.exists() and not arguments.update:
        baseline = json.loads(BASELINE.read_text())
    if not arguments.update and baseline["versions"] != versions():
        was = baseline["versions"]
        print(f"skipped: the baseline is of {was}, this is {versions()}; make one with --update")
        return 0
    now = count()
    if arguments.update:
        BASELINE.parent.mkdir(exist_ok=True)
        made = {"versions": versions(), "instructions": now}
        BASELINE.write_text(json.dumps(made, indent=1) + "\n")
    lines, fine = compared(now, baseline["instructions"])
    print("\n".join(lines))
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
