"""Tables of what people look at: aligned text for a terminal, HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

LEFT = 'style="text-align: left"'


def text_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1) -> str:
    """Aligned columns: the first `left` of them to the left, the others, figures, to the right.

    >>> print(text_table(["op", "count"], [["interp", 3], ["resample_trajectories", 12]]))
    op                     count
    interp                     3
    resample_trajectories     12
    """
    cells = [list(map(str, headers)), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def html_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1) -> str:
    """The same as an HTML table. Whatever the cells hold is shown as text.

    >>> html_table(["op"], [["<interp>"]])[-40:]
    '&lt;interp&gt;</th></tr></tbody></table>'
    """

    def line(cells: Iterable[Any], tag: str) -> str:
        made = []
        for i, cell in enumerate(cells):
            name = "th" if i == 0 else tag
            style = f" {LEFT}" if i < left else ""
            made.append(f"<{name}{style}>{html.escape(str(cell))}</{name}>")
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(headers, 'th')}</thead><tbody>{body}</tbody></table>"


def print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table of words: by rich, which folds long cells, where that is installed."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title, text_table(headers, rows, left=len(headers)), sep="\n")
        return
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file has room
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False
    )
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
