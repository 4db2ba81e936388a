"""Tables that fit the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Column:
    """A column: `wide` is left out where the terminal has no room, `fold` breaks at spaces."""

    name: str
    justify: Literal["left", "center", "right"] = "right"
    wide: bool = False
    fold: bool = False
    style: str | None = None


def _build(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    ends: Collection[int],
    caption: str,
    *,
    gap: int,
) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption="\n" + caption if caption else None,
        caption_justify="left",
        caption_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, gap - 1, 0, 0),  # the box has one space between columns
    )
    for i, column in enumerate(columns):
        words = (word for row in rows for word in row[i].split()) if column.fold else ()
        table.add_column(
            column.name,
            justify=column.justify,
            no_wrap=not column.fold,
            min_width=max(map(len, words), default=None),
            style=column.style,
        )
    for number, row in enumerate(rows):
        table.add_row(*row, end_section=number in ends)
    return table


def show(
    console: Console,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    ends: Collection[int] = (),
) -> None:
    """Prints a table with a line after each of the rows `ends`; leaves out `wide` columns that do not fit."""
    table = _build(title, columns, rows, ends, caption, gap=2)
    # Measured as if there were room, because what is measured is cut down to the room that there is.
    if console.measure(table, options=console.options.update_width(1000)).minimum > console.width:
        narrow = [i for i, column in enumerate(columns) if not column.wide]
        cells = [[row[i] for i in narrow] for row in rows]
        table = _build(title, [columns[i] for i in narrow], cells, ends, caption, gap=1)
    console.print(table, "")
