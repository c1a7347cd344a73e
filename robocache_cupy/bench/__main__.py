"""The command line of the bench."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import cases, peers
from .cases import Case, Inputs
from .measure import QUICK, Cpu, Cuda, Device, Effort, each_call, warm_call
from .peers import Resample
from .report import machine, one_line, print_report

_MOST_SETS = 256
_TUNING = Effort(replays=5, warm_up=0.005)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; the result is the exit code, 1 if a result of this library was wrong."""
    parser = argparse.ArgumentParser("python -m robocache_cupy.bench", description=__doc__)
    parser.add_argument("op", choices=["resample"], help="what to time")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="write all figures there")
    parser.add_argument(
        "--cases", type=_cases, metavar="A,B", help="BxSxTxD-dtype[-clock], or how names "
        "of published cases begin; all published ones by default"
    )  # fmt: skip
    parser.add_argument(
        "--peers", type=_peers, metavar="A,B", help=f"from {', '.join(peers.PEERS)}; by default "
        f"{', '.join(peers.DEFAULT)}, as far as they run here"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="of the random inputs; a fresh one by default")
    parser.add_argument(
        "--quick", action="store_true",
        help="few repetitions, and the first two shapes unless --cases says otherwise",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    try:
        import torch
    except ImportError:
        parser.error("the bench needs PyTorch")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here: pass --device cpu")

    chosen = arguments.cases or cases.RESAMPLE[: 4 if arguments.quick else None]
    effort = QUICK if arguments.quick else Effort()
    names = arguments.peers
    if names is None:
        triton = arguments.device == "cuda" and find_spec("triton") is not None
        names = [name for name in peers.DEFAULT if name != "triton" or triton]
    seed = time.time_ns() % 2**32 if arguments.seed is None else arguments.seed
    with torch.no_grad():
        report = _run(chosen, names, arguments.device, effort, seed, arguments.save)
    print_report(report)
    return int(any("problem" in case["gpu"]["ours"] for case in report["cases"]))


def _cases(text: str) -> list[Case]:
    try:
        return cases.select(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in peers.PEERS:
            raise argparse.ArgumentTypeError(
                f"no peer {name!r}: expected {', '.join(peers.PEERS)}"
            )  # fmt: skip
    return names


def _run(
    chosen: Sequence[Case], names: Sequence[str], on: str, effort: Effort, seed: int,
    save: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """All figures of all cases, saved after each so that an interrupted run leaves what it has."""
    import torch

    device: Device = Cuda() if on == "cuda" else Cpu()
    generator = torch.Generator(on).manual_seed(seed)
    rate, rates = device.copy_bandwidth(effort)
    back_to_back, cold = device.nothing(effort)
    report: dict[str, Any] = {
        "machine": machine(on),
        "seed": seed,
        "effort": effort._asdict(),
        "peers": {name: peers.PEERS[name].title for name in names},
        "cache_bytes": device.cache,
        "copy": {"bytes_per_s": rate, "samples": rates},
        "empty_kernel": {"us": back_to_back, "cold_us": cold},
        "cases": [],
    }
    for number, case in enumerate(chosen, 1):
        start = time.perf_counter()
        found = _case(case, names, device, generator, effort, rate, seed)
        found["wall_s"] = time.perf_counter() - start
        report["cases"].append(found)
        if save is not None:
            save.write_text(json.dumps(report, indent=1) + "\n")
        figures = " ".join(
            f"{name} {one['problem'] if 'problem' in one else format(one['us'], '.2f')}"
            for name, one in found["gpu"].items()
        )
        print(
            f"[{number}/{len(chosen)}] {case.name}: floor {found['floor_us']:.2f} us, {figures} "
            f"({found['wall_s']:.1f} s)",
            file=sys.stderr,
            flush=True,
        )
    return report


def _case(
    case: Case, names: Sequence[str], device: Device, generator: Any, effort: Effort, rate: float,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    peers.forget()
    sets, floors = _sets(case, device, generator)
    moved = sum(floor.bytes for floor in floors) / len(floors)
    gpu: dict[str, dict[str, Any]] = {}
    calls: dict[str, Resample] = {}
    for name in ("ours", *names):
        variants = peers.ours if name == "ours" else peers.PEERS[name].variants
        gpu[name] = _contest(case, variants, sets, device, effort, seed, calls, name)
    if "ours" in calls:
        # Once more: a difference between peers that is below that of these two is noise.
        again = device.rotating(calls["ours"], sets, effort)
        gpu["ours"]["again_us"] = again.median
        gpu["ours"]["again_samples"] = again.samples
    total = moved * len(sets)
    return {
        "name": case.name,
        **case._asdict(),
        "sets": len(sets),
        "buffers": "rotating" if total > 2 * device.cache > 0 else "warm",
        "rotating_bytes": total,
        "floor_bytes": moved,
        "floor_us": moved / rate * 1e6,
        "rows_touched": [floor.rows for floor in floors],
        "gpu": gpu,
        "host": _host(case, sets[0], calls, device, effort),
    }


def _sets(case: Case, device: Device, generator: Any) -> tuple[list[Inputs], list[cases.Floor]]:
    """As many sets of inputs as take what the calls move past twice the cache, and two at least,
    if a third of the free memory holds them with their outputs."""
    room = device.free_bytes() // 3
    sets = [cases.draw(case, device.name, generator)]
    floors = [cases.floor(case, sets[0])]
    B, _, T, D, *_ = case
    data = sets[0].data
    size = sum(x.nbytes for x in sets[0]) + B * T * D * data.element_size()
    wanted = max(2, 2 * device.cache // floors[0].bytes + 1)
    for _ in range(min(wanted, _MOST_SETS, max(1, room // size)) - 1):
        sets.append(cases.draw(case, device.name, generator))
        floors.append(cases.floor(case, sets[-1]))
    return sets, floors


def _contest(
    case: Case, variants: Callable[[Case], dict[str, Resample]], sets: Sequence[Inputs],
    device: Device, effort: Effort, seed: int, calls: dict[str, Resample], name: str,
) -> dict[str, Any]:  # fmt: skip
    """Check each variant, then time the fastest and note it in `calls`. Whatever goes wrong is the
    result: it leaves the figures of the others as they are."""
    try:
        forms = variants(case)
        checks = {}
        for form, fn in forms.items():
            checks[form] = cases.check(case, sets[0], _poisoned(case, fn, sets[0]), seed)
            if not checks[form].ok:
                return {"problem": f"wrong result: {checks[form].problem}", "variant": form}
        best = next(iter(forms))
        if len(forms) > 1:
            tries = {form: device.rotating(fn, sets, _TUNING).median for form, fn in forms.items()}
            best = min(tries, key=tries.__getitem__)
        timing = device.rotating(forms[best], sets, effort)
        cold = device.cold(forms[best], sets[0], effort)
    except Exception as e:  # a peer may fail in any way, out of memory included
        return {"problem": f"{type(e).__name__}: {one_line(str(e))}"}
    calls[name] = forms[best]
    return {
        "us": timing.median,
        "samples": timing.samples,
        "calls": timing.calls,
        "cold_us": cold.median,
        "cold_samples": cold.samples,
        "variant": best,
        "error": checks[best].error,
        "tolerance": checks[best].tolerance,
    }


def _poisoned(case: Case, fn: Resample, inputs: Inputs) -> Any:
    """A result in memory that held NaN before, as far as the allocator gives it out again."""
    import torch

    data = inputs.data
    shape = (case.B, case.T, case.D)
    torch.full(shape, float("nan"), dtype=data.dtype, device=data.device)
    return fn(*inputs)


def _host(
    case: Case, inputs: Inputs, calls: dict[str, Resample], device: Device, effort: Effort
) -> dict[str, Any]:
    """Host time of warm calls and of calls with new shapes. On the CPU it contains the work itself
    and is measured for small cases only."""
    import torch

    if "ours" not in calls or (device.name == "cpu" and case.B * case.T * case.D > 2**16):
        return {}
    resample = calls["ours"]
    data, src, tgt = inputs

    def warm(fn: Callable[[], Any], effort: Effort = effort) -> float:
        return warm_call(fn, device, effort)

    found: dict[str, Any] = {
        "ours_torch_us": warm(lambda: resample(data, src, tgt)),
        "torch_add_us": warm(lambda: torch.add(data, data)),
    }
    if device.name == "cuda":
        found |= _host_cupy(inputs, resample, warm)
    # Peers launch several kernels a call, and a stream queues about a thousand.
    few = effort._replace(host_calls=min(60, effort.host_calls))
    for name, call in calls.items():
        if name != "ours":
            found[f"{name}_us"] = warm(functools.partial(call, *inputs), few)

    # Targets in every number from T + 1 up, most first: the memory of the first output serves all.
    most = case.T + effort.shapes + 1
    targets = tgt.flatten().repeat(-(-most // case.T))
    calls_of = [
        (data, src, targets[: case.B * count].view(case.B, count))
        for count in range(most, case.T, -1)
    ]
    resample(*calls_of[0])
    new = each_call(resample, calls_of[1:], device)
    found["new_shape_us"] = sum(new.samples) / len(new.samples)
    found["new_shape_samples"] = new.samples
    return found


def _host_cupy(
    inputs: Inputs, resample: Resample, warm: Callable[[Callable[[], Any]], float]
) -> dict[str, Any]:
    import torch

    from .._core.array import bfloat16, import_cupy

    cupy = import_cupy()

    def of(x: Any) -> Any:
        if x.dtype is torch.bfloat16:
            return cupy.from_dlpack(x.view(torch.int16)).view(bfloat16())
        return cupy.from_dlpack(x)

    found: dict[str, Any] = {}
    try:
        data, src, tgt = map(of, inputs)
        found["ours_cupy_us"] = warm(lambda: resample(data, src, tgt))
        found["cupy_add_us"] = warm(lambda: data + data)
    except Exception as e:  # CuPy computes with bfloat16 since 14, and only with ml_dtypes
        found["cupy_problem"] = f"{type(e).__name__}: {one_line(str(e))}"
    return found


if __name__ == "__main__":
    sys.exit(main())
