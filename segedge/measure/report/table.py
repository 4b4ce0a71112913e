"""Tables as lines of text and as Markdown, and the figures that stand in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from segedge.measure.report.page import Table

T = TypeVar("T")
Column = tuple[str, Callable[[T], str]]
"""Its head, and what it says of an item."""


def table_of(items: Iterable[T], columns: Sequence[Column[T]]) -> list[list[str]]:
    """A head, and a row an item."""
    return [[name for name, _ in columns], *([read(one) for _, read in columns] for one in items)]


def text_lines(table: Table) -> list[str]:
    """Aligned columns, numbers to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    is_left = [not any(c.isdigit() for c in table[1][i][:1]) for i in range(len(widths))]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, is_left, strict=True)
        ).rstrip()
        for row in table
    ]


def markdown_table(table: Table) -> str:
    """The same for an issue or a page."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def ms(value: float) -> str:
    """Milliseconds: two decimals below 100."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def whole(value: float | None) -> str:
    """Without decimals; a dash where it is not known."""
    return "-" if value is None else f"{value:.0f}"


def span(ends: tuple[float, float]) -> str:
    """From and to, in milliseconds."""
    return f"{ms(ends[0])} .. {ms(ends[1])}"


def percent(share: float | None) -> str:
    """Points of 100, two decimals: differences of models are that small."""
    return "-" if share is None or share != share else f"{100 * share:.2f}"
