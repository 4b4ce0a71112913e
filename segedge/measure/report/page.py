"""One self-contained page: headings, tables, figures. No outside network, no script.

Everything that comes in as text is escaped here; arguments named ``*_html`` are finished markup.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

Table = Sequence[Sequence[str]]
"""Rows of cells; the first row is the head."""


def page(
    title: str, sections_html: Iterable[str], *, answer: str, footer: str = "", language: str = "en"
) -> str:
    """A whole document; ``answer`` is the one sentence for whom it is enough, below the heading."""
    return (
        f'<!doctype html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n"
        f'<p class="answer">{escape(answer)}</p>\n</header>\n<main>\n'
        + "\n".join(sections_html)
        + f"\n</main>\n<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    """Text as it may stand in markup and in a quoted attribute."""
    return html.escape(text, quote=True)


def section(heading: str, *parts_html: str) -> str:
    """A part of the page with its heading; empty without parts."""
    body = "\n".join(part for part in parts_html if part)
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph; ``kind`` is empty, ``note`` (quiet) or ``warning`` (marked)."""
    name = f' class="{escape(kind)}"' if kind else ""
    return f"<p{name}>{escape(text)}</p>"


def bullets(texts: Iterable[str], *, kind: str = "") -> str:
    """A list; empty without items. ``kind`` as in `paragraph`."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    name = f' class="{escape(kind)}"' if kind else ""
    return f"<ul{name}>{items}</ul>" if items else ""


def table(rows: Table, *, caption: str = "", marked: int | None = None) -> str:
    """A table, its head first, that scrolls sideways where it is too wide.

    A column whose first cell begins with a digit is set right; ``marked`` is a row that stands out.
    """
    head, *body = rows
    right = [_is_number(body[0][i]) if body else False for i in range(len(head))]
    lines = [_row(head, right, "th", "")]
    lines += [
        _row(row, right, "td", ' class="marked"' if n == marked else "")
        for n, row in enumerate(body)
    ]
    # Not a caption element, which would be as wide as a table that is wider than the screen.
    told = paragraph(caption, kind="note") if caption else ""
    name = f' aria-label="{escape(caption)}"' if caption else ""
    # A region that scrolls must be reachable by the keyboard.
    return (
        f'{told}<div class="scroll" tabindex="0" role="group"{name}><table>'
        f"<thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table></div>"
    )


def _row(cells: Sequence[str], right: Sequence[bool], tag: str, attributes: str) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    made = "".join(
        f"<{tag}{scope}{' class=n' if is_right else ''}>{escape(cell)}</{tag}>"
        for cell, is_right in zip(cells, right, strict=True)
    )
    return f"<tr{attributes}>{made}</tr>"


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-±−~<>≤≥ ")[:1].isdigit() or cell in ("-", "–")


def facts(pairs: Mapping[str, str]) -> str:
    """Names and what they are, side by side."""
    rows = "".join(f"<dt>{escape(n)}</dt><dd>{escape(text)}</dd>" for n, text in pairs.items())
    return f"<dl>{rows}</dl>" if rows else ""


def figure(chart_html: str, *, caption: str, legend: Sequence[str] = ()) -> str:
    """A chart with its legend, in the order of its colours, and what it includes; or nothing."""
    if not chart_html:
        return ""
    keys = "".join(
        f'<li><span class="key c{color(n)}"></span>{escape(name)}</li>'
        for n, name in enumerate(legend)
    )
    told = f'<ul class="legend">{keys}</ul>' if keys else ""
    return f"<figure>{told}{chart_html}<figcaption>{escape(caption)}</figcaption></figure>"


COLORS = 8


def color(number: int) -> int:
    """The colour of the n-th series; after the last they begin again."""
    return number % COLORS


def _style() -> str:
    return (
        resources.files("segedge.measure.report").joinpath("page.css").read_text(encoding="utf-8")
    )
