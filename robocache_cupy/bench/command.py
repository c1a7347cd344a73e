"""The command ``robocache bench``. What it needs is imported when it runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..align.error import CommandError

if TYPE_CHECKING:
    from .measure import Device, Effort


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "op", nargs="*", metavar="OP",
        help="an op, or the beginning of a case's name, or such a name with other sizes; default: "
        "all published cases",
    )  # fmt: skip
    command.add_argument(
        "--device", choices=["cuda", "cpu"], help="default: cuda where there is one"
    )
    command.add_argument("--quick", action="store_true", help="fewer cases and repetitions")
    command.add_argument(
        "--peers", metavar="A,B", help="only these, or none; default: all that are installed"
    )
    command.add_argument("--seed", type=int, help="of the random inputs; default: a fresh one")
    command.add_argument(
        "--minutes", type=float, metavar="M", help="begin no case after that time"
    )  # fmt: skip
    command.add_argument(
        "--scaling", action="store_true", help="also how time grows with B, S, T, D, N and G"
    )
    files = command.add_argument_group("files")
    files.add_argument(
        "--save", type=Path, metavar="FILE.json", help="all figures, written after each case"
    )
    files.add_argument(
        "--resume", action="store_true", help="do what is missing in the file of --save"
    )
    files.add_argument("--csv", type=Path, metavar="FILE", help="all figures, a line each")
    files.add_argument("--html", type=Path, metavar="FILE", help="one page with tables and plots")
    files.add_argument(
        "--against", type=Path, metavar="FILE.json",
        help="an earlier run: exit code 1 where a case is more than 5 %% slower at p50, or 10 %% "
        "at p99, as a multiple of the floor that the copy bandwidth of its run sets",
    )  # fmt: skip
    files.add_argument(
        "--commit", metavar="SHA", help="of the code, where it does not lie in a git checkout"
    )
    files.add_argument(
        "--readme", type=Path, metavar="FILE.json",
        help="measure nothing: write the table of a saved run into README.md",
    )  # fmt: skip


def bench(arguments: argparse.Namespace, effort: Effort | None = None) -> int:
    """Run the command; the result is the exit code."""
    if arguments.readme is not None:
        from . import readme

        return readme.main([str(arguments.readme)])
    try:
        import torch
    except ImportError as error:
        raise CommandError("the bench takes PyTorch: pip install torch") from error
    from .published import select

    try:
        cases = select(arguments.op, arguments.quick)
        before = None if arguments.against is None else _read(arguments.against)
    except ValueError as error:
        raise CommandError(str(error)) from None
    report, device, effort = _begun(arguments, effort)
    interrupted = False
    with torch.no_grad():
        try:
            _measure(arguments, cases, device, effort, report)
        except KeyboardInterrupt:
            interrupted = True
            report["stopped"] = "interrupted"
    return _ended(arguments, report, before, interrupted)


def _begun(
    arguments: argparse.Namespace, effort: Effort | None
) -> tuple[dict[str, Any], Device, Effort]:
    """The report without a case yet, or the one to be resumed."""
    import torch

    from .machine import machine
    from .measure import QUICK, Cpu, Cuda, Effort
    from .run import titles

    there = torch.cuda.is_available()
    on = arguments.device or ("cuda" if there else "cpu")
    if on == "cuda" and not there:
        raise CommandError("no CUDA device here: pass --device cpu")
    if arguments.html is not None:
        from .page import require_matplotlib

        require_matplotlib()
    device: Device = Cuda() if on == "cuda" else Cpu()
    effort = effort or (QUICK if arguments.quick else Effort())
    names = _peers(arguments.peers, device)
    report: dict[str, Any] = {
        "machine": machine(on),
        "seed": time.time_ns() % 2**32 if arguments.seed is None else arguments.seed,
        "effort": effort._asdict(),
        "peers": titles(names),
        "cache_bytes": device.cache,
        "cases": [],
    }
    if arguments.commit:
        report["machine"]["commit"] = arguments.commit
    if arguments.resume and arguments.save is not None and arguments.save.exists():
        old = _read(arguments.save)
        for what in ("device", "gpu", "commit"):
            was, is_ = (x["machine"].get(what) for x in (old, report))
            if was != is_:
                raise CommandError(f"{arguments.save}: was made with {what} {was}, not {is_}")
        report["cases"] = old["cases"]
        report |= {key: old[key] for key in ("host", "scaling") if key in old}
    return report, device, effort


def _peers(text: str | None, device: Device) -> list[str]:
    from .run import available

    known = available(device)
    if text is None:
        return known
    names = [name for name in text.split(",") if name and name != "none"]
    for name in names:
        if name not in known:
            raise CommandError(
                f"no peer {name!r} on {device.name}: expected {', '.join(known)}, or none"
            )
    return names


def _measure(
    arguments: argparse.Namespace, cases: Sequence[Any], device: Device, effort: Effort,
    report: dict[str, Any],
) -> None:  # fmt: skip
    from .host import host
    from .run import measured, write

    report["copy_bytes_per_s"] = device.copy_bandwidth(effort)
    report["empty_kernel_us"] = device.nothing(effort)
    names = [name for name, peer in report["peers"].items() if "missing" not in peer]
    seed = report["seed"]
    measured(cases, names, device, effort, seed, report, arguments.save, arguments.minutes)
    if not arguments.op and "host" not in report:
        report["host"] = host(device, effort, seed)
        write(report, arguments.save)
    if arguments.scaling and "scaling" not in report:
        from .scaling import grown

        ops = {case.op for case in cases}
        grown(device, effort, seed, report, arguments.save, names, ops)


def _ended(
    arguments: argparse.Namespace, report: dict[str, Any], before: dict[str, Any] | None,
    interrupted: bool,
) -> int:  # fmt: skip
    from . import against, table
    from .run import write

    if "empty_kernel_us" not in report:
        return 130  # interrupted before anything was measured
    write(report, arguments.save)
    table.printed(report)
    if arguments.csv is not None:
        table.save_csv(report, arguments.csv)
    if arguments.html is not None:
        from . import page

        arguments.html.write_text(page.page(report))
    if interrupted:
        print("robocache: interrupted", file=sys.stderr)
        return 130
    code = int(any("problem" in case["contenders"]["ours"] for case in report["cases"]))
    if before is not None:
        try:
            worse, compared = against.slower(report, before)
        except ValueError as error:
            raise CommandError(f"{arguments.against}: {error}") from None
        for line in worse:
            print(f"SLOWER {line}")
        print(f"{compared} cases compared with {arguments.against}, {len(worse)} figures slower")
        code = code or int(bool(worse) or not compared)
    return code


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
        report["machine"]["device"], report["cases"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path}: no saved run of the bench ({error})") from None
    return dict(report)
