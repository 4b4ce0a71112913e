"""Pictures inside a page: photographs side by side, coloured names, and matrices of shares."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from segedge.measure.report.page import escape

_KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"))


def picture(data: bytes, *, alt: str) -> str:
    """A PNG or JPEG file as part of the page."""
    kind = next((name for start, name in _KINDS if data.startswith(start)), None)
    if kind is None:
        raise ValueError(f"neither PNG nor JPEG: {data[:4]!r}")
    text = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/{kind};base64,{text}" alt="{escape(alt)}">'


def panels(named: Iterable[tuple[str, bytes]], *, caption: str) -> str:
    """Pictures side by side, two a row where there is room, each with its name."""
    shown = "".join(
        f"<div>{picture(data, alt=f'{name}: {caption}')}<span>{escape(name)}</span></div>"
        for name, data in named
    )
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="panels">{shown}</div>'
        "</figure>"
    )


def swatches(named: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """Names with their own RGB colours; empty without names."""
    keys = "".join(
        f'<li><span class="key swatch" style="color:rgb({r},{g},{b})"></span>{escape(name)}</li>'
        for name, (r, g, b) in named
    )
    return f'<ul class="legend">{keys}</ul>' if keys else ""


def matrix(
    names: Sequence[str], shares: Sequence[Sequence[float | None]], *, caption: str, between: str
) -> str:
    """A square of shares in percent, dark where they are large, the diagonal in another colour.

    ``between`` is said of a cell between the names of its row and its column.
    """
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(
            _cell(share, name, names[x], between, is_right=x == y) for x, share in enumerate(row)
        )
        + "</tr>"
        for y, (name, row) in enumerate(zip(names, shares, strict=True))
    )
    return (
        f'<p class="note">{escape(caption)}</p><div class="scroll" tabindex="0" role="group" '
        f'aria-label="{escape(caption)}"><table class="matrix"><thead><tr><td></td>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _cell(share: float | None, row: str, column: str, between: str, *, is_right: bool) -> str:
    if share is None:
        return '<td class="none">-</td>'
    told = escape(f"{row} {between} {column}: {100 * share:.2f} %")
    percent = round(100 * share)
    name = "right" if is_right else "wrong"
    # A share of 1 % must be seen: the square root lifts the small ones.
    depth = 0 if share < 0.005 else round(100 * share**0.5)
    return (
        f'<td class="{name}" style="--depth:{depth}%" title="{told}">{percent if percent else ""}'
        "</td>"
    )
