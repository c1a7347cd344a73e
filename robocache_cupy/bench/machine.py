"""What a run was made on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("robocache-cupy", "numpy", "numba", "torch", "triton", "cupy", "cupy-cuda12x",
             "cupy-cuda13x", "jax", "scipy", "pandas", "fpsample")  # fmt: skip


def one_line(text: str, limit: int = 160) -> str:
    """The first line that says something; where it ends in a colon, with the one behind it.

    >>> one_line("\\n  out of memory\\nmore"), one_line("it raised:\\n  no such thing")
    ('out of memory', 'it raised: no such thing')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return line if len(line) <= limit else line[: limit - 3] + "..."


def machine(device: str) -> dict[str, Any]:
    """The device, the versions, the date and the commit."""
    import torch

    found: dict[str, Any] = {
        "device": device,
        "host": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {},
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
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


def name(machine: dict[str, Any]) -> str:
    """The device of a run, in words."""
    return str(machine.get("gpu") or f"{machine['host']}, {machine['cores']} cores")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


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
