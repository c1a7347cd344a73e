"""A run beside an earlier one: the guard against getting slower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

P50, P99 = 1.05, 1.10  # what a case may take of its earlier share


def slower(now: dict[str, Any], before: dict[str, Any]) -> tuple[list[str], int]:
    """The cases that take more of the time of a copy than they did, a line each, and the number
    of those compared. Times over the floor of the same run are compared, so that machines of one
    kind may differ."""
    kinds = [run["machine"]["device"] for run in (now, before)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"this run is on {kinds[0]}, the baseline on {kinds[1]}")
    earlier = {case["name"]: case for case in before["cases"]}
    pairs = [(case, earlier[case["name"]]) for case in now["cases"] if case["name"] in earlier]
    return [line for pair in pairs for line in _worse(*pair)], len(pairs)


def _worse(now: dict[str, Any], before: dict[str, Any]) -> Iterator[str]:
    ours, was = (case["contenders"].get("ours", {}).get("cold") for case in (now, before))
    if was is None:
        return
    if ours is None:
        yield f"{now['name']}: {now['contenders'].get('ours', {}).get('problem', 'not measured')}"
        return
    for figure, name, allowed in (("median", "p50", P50), ("p99", "p99", P99)):
        over = ours[figure] / now["floor_us"]
        found = over / (was[figure] / before["floor_us"])
        if found > allowed:
            yield (
                f"{now['name']}: {name} {ours[figure]:.2f} us is {over:.2f} times the floor, "
                f"{found - 1:.1%} more than before"
            )
