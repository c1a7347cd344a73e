"""One HTML page of a run, with plots; everything it needs is in it."""

from __future__ import annotations

import functools
import html
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..align.error import CommandError
from . import table
from .table import OURS, median, ratio

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto } svg { max-width: 100%; height: auto }
"""
_COLORS = {
    OURS: "#d1495b", "torch": "#30638e", "compile": "#00798c", "triton": "#edae49",
    "jax": "#66a182", "cupy": "#8d6a9f", "numpy": "#8d6a9f", "peract": "#8c8c8c",
}  # fmt: skip


def require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CommandError(
            "--html takes matplotlib: pip install 'robocache-cupy[viz]'"
        ) from error  # fmt: skip


def page(report: dict[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<title>robocache bench</title>", f"<style>{_STYLE}</style><h1>robocache bench</h1>",
    ]  # fmt: skip
    parts += [f"<p>{html.escape(line)}</p>" for line in table.facts(report)]
    parts += ["<ul>", *(f"<li>{html.escape(x)}</li>" for x in table.problems(report))]
    parts += [*(f"<li>{html.escape(x)}</li>" for x in table.verdict(report)), "</ul>"]
    parts += [f"<h2>{html.escape(title)}</h2>{svg}" for title, svg in _plots(report)]
    ops = dict.fromkeys(case["op"] for case in report["cases"])
    tables = [table.of_op(report, op) for op in ops]
    tables += [table.host(report)] if report.get("host") else []
    tables += [table.scaling(report)] if report.get("scaling") else []
    parts += [_table(*one) for one in tables]
    return "\n".join([*parts, "</html>\n"])


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(x)}</{tag}>" for x in cells) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    title = html.escape(title)
    return f"<h2>{title}</h2><div class='wide'><table>{row('th', header)}{body}</table></div>"


def _plots(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    cases = [case for case in report["cases"] if median(case, OURS, "cold") is not None]
    if cases:
        height = 0.8 + 0.2 * len(cases)
        yield "Share of the floor", _svg(lambda ax: _shares(ax, cases), 9, height)
        yield "Time of each peer over ours", _svg(lambda ax: _ratios(ax, cases, report), 9, height)
    for op in dict.fromkeys(case["op"] for case in cases):
        of_op = [case for case in cases if case["op"] == op]
        if len({case["floor_bytes"] for case in of_op}) > 1:
            draw = functools.partial(_times, cases=of_op, report=report)
            yield f"{op}: time and bytes", _svg(draw, 7, 4)
    for line in report.get("scaling", []):
        if line["cases"]:
            draw = functools.partial(_growth, line=line, report=report)
            yield f"{line['op']}: growth with {line['axis']}", _svg(draw, 7, 4)


def _svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.add_subplot())
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def _shares(ax: Any, cases: Sequence[dict[str, Any]]) -> None:
    at = range(len(cases))
    ax.barh(at, [100 * case["contenders"][OURS]["share"] for case in cases], color=_COLORS[OURS])
    _named(ax, cases)
    ax.axvline(100, color="black", lw=0.8)
    ax.set_xlabel("time of a copy of the same bytes, % of ours")


def _ratios(ax: Any, cases: Sequence[dict[str, Any]], report: dict[str, Any]) -> None:
    for name, peer in report["peers"].items():
        found = [(i, ratio(case, name)) for i, case in enumerate(cases)]
        there = [(i, x) for i, x in found if x is not None]
        if there:
            ax.plot(
                [x for _, x in there], [i for i, _ in there], "o", ms=4, label=peer["title"],
                color=_COLORS.get(name),
            )  # fmt: skip
    _named(ax, cases)
    ax.set_xscale("log")
    ax.axvline(1, color="black", lw=0.8)
    ax.set_xlabel("times ours; left of the line the peer is faster")
    _legend(ax)


def _named(ax: Any, cases: Sequence[dict[str, Any]]) -> None:
    ax.set_yticks(range(len(cases)), [case["name"] for case in cases], fontsize=7)
    ax.set_ylim(len(cases) - 0.4, -0.6)
    ax.grid(axis="x", lw=0.3)


def _times(ax: Any, cases: Sequence[dict[str, Any]], report: dict[str, Any]) -> None:
    _lines(ax, cases, [case["floor_bytes"] for case in cases], report, "o")
    ax.set_xlabel("bytes that must move")


def _growth(ax: Any, line: dict[str, Any], report: dict[str, Any]) -> None:
    sizes = [case["sizes"][line["axis"]] for case in line["cases"]]
    _lines(ax, line["cases"], sizes, report, "o-")
    ax.set_xlabel(line["axis"])


def _lines(
    ax: Any, cases: Sequence[dict[str, Any]], at: Sequence[int], report: dict[str, Any], style: str
) -> None:
    order = sorted(range(len(cases)), key=at.__getitem__)
    floor = [cases[i]["floor_us"] for i in order]
    ax.plot([at[i] for i in order], floor, color="black", lw=0.8, label="floor")
    for name, title in {
        OURS: "ours",
        **{n: p["title"] for n, p in report["peers"].items()},
    }.items():
        found = [(at[i], median(cases[i], name, "cold")) for i in order]
        there = [(x, y) for x, y in found if y is not None]
        if there:
            xs, ys = zip(*there, strict=True)
            ax.plot(xs, ys, style, ms=4, lw=1, label=title, color=_COLORS.get(name))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylabel("us a call")
    ax.grid(lw=0.3)
    _legend(ax)


def _legend(ax: Any) -> None:
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=7)
