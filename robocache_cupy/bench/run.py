"""A run: check, then time ours and the peers, one case after another."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from . import peers
from .case import Arguments, Call, Case, Kind, Wrong
from .draw import Draw
from .machine import one_line
from .measure import Device, Effort, wall, warm_call
from .peers import Framework
from .published import KINDS
from .statistic import summary

OURS = "ours"
Report = dict[str, Any]


class Contender(NamedTuple):
    """A way to do a case: the fastest form of it."""

    call: Call
    framework: Framework
    form: str


class Sets(NamedTuple):
    """Arguments in such a number that the calls move more than twice the cache."""

    arguments: list[Arguments]
    floor: int  # bytes of a call, on average

    def cold(self, device: Device) -> bool:
        return self.floor * len(self.arguments) > 2 * device.cache > 0


def measured(
    cases: Sequence[Case], names: Sequence[str], device: Device, effort: Effort, seed: int,
    report: Report, save: Path | None, minutes: float | None,
) -> None:  # fmt: skip
    """Add the figures of all cases to a report, and save it after each, so that a run that is cut
    off leaves what it has. Cases that the report has already are left as they are."""
    start = time.perf_counter()
    have = {case["name"] for case in report["cases"]}
    todo = [case for case in cases if case.name not in have]
    for number, case in enumerate(todo, 1):
        begun = time.perf_counter()
        if minutes is not None and begun - start > 60 * minutes:
            left = [case.name for case in todo[number - 1 :]]
            report["stopped"] = f"after {minutes:g} minutes, before {', '.join(left)}"
            break
        found = figures(case, names, device, effort, seed, report["copy_bytes_per_s"])
        found["took_s"] = round(time.perf_counter() - begun, 2)
        report["cases"].append(found)
        write(report, save)
        print(f"[{number}/{len(todo)}] {in_short(found)}", file=sys.stderr, flush=True)


def write(report: Report, path: Path | None) -> None:
    """Whole or not at all, as far as a file can be: a run may be cut off at any time."""
    if path is not None:
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(report, indent=1) + "\n")
        part.replace(path)


def in_short(case: Report) -> str:
    parts = []
    for name, one in case["contenders"].items():
        figure = one.get("cold", {}).get("median")
        parts.append(f"{name} {one.get('problem') if figure is None else f'{figure:.2f}'}")
    return (
        f"{case['name']}: floor {case['floor_us']:.2f} us, {', '.join(parts)} ({case['took_s']} s)"
    )


def figures(
    case: Case, names: Sequence[str], device: Device, effort: Effort, seed: int, rate: float
) -> Report:
    """All figures of one case."""
    kind = KINDS[case.kind]
    contenders: dict[str, Contender] = {}
    problems: dict[str, str] = {}
    samples: dict[str, dict[str, list[list[float]]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    floors, moved, number, cold = [], 0, 0, False
    peers.forget()
    draw = Draw(device.name, seed)
    for round_ in range(effort.seeds):
        sets = drawn(case, kind, draw, device)
        floors.append(sets.floor)
        moved, number, cold = sets.floor, len(sets.arguments), sets.cold(device)
        for name in (OURS, *names) if round_ == 0 else list(contenders):
            try:
                with ExitStack() as stack:
                    if round_ == 0:
                        chosen = _chosen(name, case, kind, sets, device, effort, stack)
                        if chosen is None:
                            continue
                        contenders[name] = chosen
                    else:
                        stack.enter_context(contenders[name].framework.session())
                    _time(
                        contenders[name], name == OURS, case, kind, sets, device, effort,
                        round_ == 0, samples.setdefault(name, {}), facts.setdefault(name, {}),
                    )  # fmt: skip
            except Exception as error:  # a peer may fail in any way, out of memory included
                problems[name] = (
                    f"wrong result: {error}" if isinstance(error, Wrong)
                    else f"{type(error).__name__}: {one_line(str(error))}"
                )  # fmt: skip
                contenders.pop(name, None)
            device.release()
        del sets
    moved = round(sum(floors) / len(floors))
    floor_us = moved / rate * 1e6
    found: dict[str, Any] = {}
    for name in (OURS, *names):
        if name in problems:
            found[name] = {"problem": problems[name]}
        elif name in contenders:
            found[name] = facts[name] | {k: summary(v) for k, v in samples[name].items()}
            median = found[name]["cold"]["median"]
            found[name]["gb_per_s"] = float(f"{moved / median / 1e3:.5g}")
            found[name]["share"] = float(f"{floor_us / median:.4g}")
    return {
        "name": case.name, "op": case.op, "variant": case.variant,
        "sizes": dict(zip(kind.axes, case.sizes, strict=True)), "dtype": case.dtype,
        "tag": case.tag, "bound": kind.bound, "sets": number, "cold": cold,
        "floor_bytes": moved, "floor_us": float(f"{floor_us:.5g}"),
        "copy_bytes_per_s": rate, "contenders": found,
    }  # fmt: skip


def drawn(case: Case, kind: Kind, draw: Draw, device: Device) -> Sets:
    """As many sets as it takes, if a quarter of the free memory holds them with their outputs."""
    arguments = [kind.draw(case, draw)]
    floor = kind.floor(case, arguments[0])
    taken = max(floor, sum(x.numel() * x.element_size() for x in arguments[0]), 1)
    wanted = 2 * device.cache // max(floor, 1) + 1
    most = min(wanted, device.most_sets, device.free_bytes() // (4 * taken))
    for _ in range(max(2, most) - 1):
        arguments.append(kind.draw(case, draw))
    return Sets(arguments, floor)


def _chosen(
    name: str, case: Case, kind: Kind, sets: Sets, device: Device, effort: Effort, stack: ExitStack
) -> Contender | None:
    """The fastest of the forms of ours or of a peer, each of which must be right."""
    if name == OURS:
        framework, forms = peers.frameworks()["torch"], {"": kind.ours(case)}
    else:
        framework = peers.frameworks()[peers.PEERS[name].framework]
        if not peers.offers(name, case):
            return None
        if peers.missing(name) is not None:
            return None  # which the head of the report says
        stack.enter_context(framework.session())
        forms = peers.calls(name, case)
    if not forms:
        return None
    arguments = [peers.converted(framework, args) for args in sets.arguments]
    for call in forms.values():
        result = peers.tensors(framework, _awaited(call, arguments[0], framework))
        kind.check(case, sets.arguments[0], result, name == OURS)
        del result
    best = next(iter(forms))
    if len(forms) > 1:
        few = effort._replace(repeats=5, seconds=effort.seconds / 3, warm_up=0.002)
        tries = {
            form: min(device.timed(call, arguments, few, framework)[0])
            for form, call in forms.items()
        }
        best = min(tries, key=tries.__getitem__)
    return Contender(forms[best], framework, best)


def _awaited(call: Call, args: Arguments, framework: Framework) -> Any:
    result = call(*args)
    if framework.wait is not None:
        framework.wait(result)
    return result


def _time(
    contender: Contender, exact: bool, case: Case, kind: Kind, sets: Sets, device: Device,
    effort: Effort, first: bool, samples: dict[str, list[list[float]]], facts: dict[str, Any],
) -> None:  # fmt: skip
    call, framework, form = contender
    arguments = [peers.converted(framework, args) for args in sets.arguments]

    def look(i: int, output: Any) -> None:
        result = peers.tensors(framework, output)
        facts["error"] = kind.check(case, sets.arguments[i], result, exact)

    def add(figure: str, values: list[float]) -> None:
        samples.setdefault(figure, []).append(values)

    # What a replay gives is looked at for ours alone: an oracle takes longer than a clock.
    looking = look if first and exact else None
    taken, how = device.timed(call, arguments, effort, framework, looking)
    add("cold", taken)
    if first:
        # All seeds go into the figures of the issue; these two tell what the cache and the
        # host make of them, for which the inputs do not matter.
        one = effort._replace(seconds=effort.seconds / 3)
        add("warm", device.timed(call, arguments[:1], one, framework)[0])
        facts |= {"how": how} | ({"form": form} if form else {})
        if device.name == "cuda":
            us = warm_call(functools.partial(call, *arguments[0]), device, effort, taken[0])
            facts["host_us"] = float(f"{us:.4g}")
    if device.name == "cuda":
        add("wall", wall(call, arguments, device, effort, framework))


def available(device: Device) -> list[str]:
    """The peers for a device, those that are not installed included."""
    return [name for name, peer in peers.PEERS.items() if device.name in peer.on]


def titles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The titles of peers, and why some are not asked."""
    found = {}
    for name in names:
        found[name] = {"title": peers.PEERS[name].title}
        reason = peers.missing(name)
        if reason is not None:
            found[name]["missing"] = reason
    return found
