"""Pages and charts: well-formed, self-contained, right in their geometry."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.measure.report.axis import Axis, number, tick_texts
from segedge.measure.report.page import (
    bullets,
    escape,
    facts,
    figure,
    page,
    paragraph,
    section,
    table,
)
from segedge.measure.report.pictures import matrix, panels, picture, swatches
from segedge.measure.report.plots import Point, Series, line_chart, scatter
from segedge.measure.report.svg import Bar, Distribution, distributions, part_names, stacked_bars

NASTY = "<script>alert('x')</script> & \"q\""
_VOID = {"meta", "br", "link", "img"}


class Nesting(HTMLParser):
    """Fails where a tag is not closed by its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def charts() -> list[str]:
    bars = [Bar("a", (("x", 1.0), ("y", 3.0))), Bar(NASTY, (("y", 2.0),))]
    rows = [Distribution(NASTY, (1.0, 2.0, 3.0), (1.5, 2.5)), Distribution("b", (5.0, 5.0))]
    series = [Series(NASTY, (Point(1, 2, 1, 3, label=NASTY), Point(2, 4)))]
    return [
        stacked_bars(bars, title=NASTY),
        distributions(rows, title="d"),
        line_chart(series, title="l", x_unit=NASTY, y_unit="ms", at=(1, 2)),
        scatter(series, title="s", x_unit="/s", y_unit=NASTY),
    ]


def whole() -> str:
    parts = [figure(chart, caption=NASTY, legend=[NASTY, "b"]) for chart in charts()]
    return page(
        NASTY,
        [
            section(NASTY, table([["a", "b"], [NASTY, "1"]], caption=NASTY, marked=0)),
            section("charts", *parts, paragraph(NASTY, kind="note"), bullets([NASTY])),
            section("facts", facts({NASTY: NASTY})),
        ],
        answer=NASTY,
        footer=NASTY,
    )


def test_the_page_nests_and_nothing_runs_in_it() -> None:
    nesting = Nesting()
    nesting.feed(whole())
    assert nesting.stack == []
    assert "script" not in nesting.tags
    assert {"svg", "table", "figcaption", "h1", "main"} <= set(nesting.tags)


def test_the_page_is_whole_in_itself() -> None:
    """No address at all, nothing fetched; its style has a dark, a light and a printed form."""
    text = whole()
    assert not re.search(r"https?:|//\w|url\(|@import|\bsrc=|\bhref=", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


@pytest.mark.parametrize("number_of_chart", range(4))
def test_charts_are_well_formed_and_tell_their_figures(number_of_chart: int) -> None:
    root = ElementTree.fromstring(charts()[number_of_chart])
    (image,) = root.findall("svg")
    assert image.get("role") == "img"
    assert ". " in (image.get("aria-label") or "")
    for element in image.iter():
        for name in ("x", "width", "x1", "x2", "cx"):
            value = element.get(name, "0%")
            if value.endswith("%"):
                assert -0.01 <= float(value[:-1]) <= 100.01


def test_nothing_measured_makes_no_chart() -> None:
    assert stacked_bars([], title="t") == distributions([], title="t") == ""
    assert line_chart([], title="t", x_unit="", y_unit="") == ""
    assert figure("", caption="c") == section("s", "") == bullets([]) == ""


def test_bars_are_as_long_as_their_parts() -> None:
    bars = [Bar("a", (("x", 1.0), ("y", 3.0))), Bar("b", (("y", 2.0),))]
    root = ElementTree.fromstring(stacked_bars(bars, title="t"))
    rects = [(r.get("class"), r.get("x"), r.get("width")) for r in root.iter("rect")]
    assert rects == [
        ("part c0", "0.00%", "25.00%"), ("part c1", "25.00%", "75.00%"),
        ("part c1", "0.00%", "50.00%"),
    ]  # fmt: skip
    assert part_names(bars) == ["x", "y"]
    with pytest.raises(ValueError, match="negative"):
        Bar("a", (("x", -1.0),))


@given(st.lists(st.floats(0.001, 1e5), min_size=2, max_size=120), st.integers(1, 80))
def test_a_histogram_of_quantiles_holds_everything(values: list[float], bins: int) -> None:
    row = Distribution("a", tuple(sorted(values)))
    assert sum(row.masses(Axis.around(values), bins)) == pytest.approx(1.0)
    assert row.at(0) == min(values)
    assert row.at(100) == pytest.approx(max(values))


def test_a_histogram_by_hand() -> None:
    row = Distribution("a", (0.0, 1.0, 1.0, 4.0))
    assert row.masses(Axis(0.0, 4.0), 4) == pytest.approx([1 / 3, 1 / 3 + 1 / 9, 1 / 9, 1 / 9])
    with pytest.raises(ValueError, match="ordered"):
        Distribution("a", (2.0, 1.0))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_linear_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    axis = Axis(low, low + width + abs(low) * 1e-6)
    ticks = axis.ticks(6)
    room = 1e-9 * max(abs(axis.low), abs(axis.high))
    assert 1 <= len(ticks) <= 7
    assert all(axis.low - room <= tick <= axis.high + room for tick in ticks)
    assert len(set(tick_texts(ticks))) == len(ticks)


@given(st.floats(1e-6, 1e6), st.floats(1.5, 1e6))
def test_shares_run_from_0_to_1(low: float, factor: float) -> None:
    for axis in (Axis(low, low * factor), Axis(low, low * factor, True)):
        assert axis.share(axis.low) == 0.0
        assert axis.share(axis.high) == pytest.approx(1.0)
        assert axis.share(axis.high * 10) == pytest.approx(1.0)
    assert Axis(low, low * factor, True).share(low * math.sqrt(factor)) == pytest.approx(0.5)


def test_axes_choose_their_kind() -> None:
    assert Axis.around([1, 100]).is_log
    assert not Axis.around([0, 100]).is_log
    assert not Axis.around([5, 6]).is_log
    assert Axis.around([7.0]).share(7.0) == pytest.approx(0.5)
    assert Axis(0.5, 2000, True).ticks() == [1, 10, 100, 1000]
    assert tick_texts(Axis(0.7609, 0.7621).ticks(5)) == ["0.7610", "0.7615", "0.7620"]
    with pytest.raises(ValueError, match="no axis"):
        Axis(0.0, 1.0, True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (21.84, "21.8"), (35.0, "35"), (0.001234, "0.00123"), (1234.5, "1234"),
     (100.0, "100"), (-2.5, "-2.5")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_columns_of_numbers_are_set_right() -> None:
    made = table([["a", "b"], ["x", "1.0"], ["y", "-"]])
    assert made.count("class=n") == 3
    assert escape(NASTY) == escape(NASTY).replace("<", "")


def test_pictures_are_in_the_page_itself() -> None:
    png, jpeg = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"
    made = panels([("image", jpeg), (NASTY, png)], caption=NASTY)
    Nesting().feed(made)
    assert "<script" not in made
    assert made.count('src="data:image/') == 2
    assert 'src="data:image/jpeg;base64,/9j/4A=="' in made
    with pytest.raises(ValueError, match="neither PNG nor JPEG"):
        picture(b"GIF89a", alt="")
    assert "rgb(1,2,3)" in swatches([("road", (1, 2, 3))])
    assert swatches([]) == ""


def test_a_matrix_says_each_share_and_hides_no_small_one() -> None:
    names = ["road", NASTY]
    made = matrix(names, [[0.99, 0.01], [None, 0.0]], caption="rows: truth", between="called")
    Nesting().feed(made)
    assert "<script" not in made
    cells = re.findall(
        r'<td class="(\w+)"(?: style="--depth:(\d+)%" title="[^"]*")?>(.*?)</td>', made
    )
    assert cells == [
        ("right", "99", "99"),
        ("wrong", "10", "1"),
        ("none", "", "-"),
        ("right", "0", ""),
    ]
    assert "road called road: 99.00 %" in made


def test_labels_of_points_that_lie_together_do_not_cover_each_other() -> None:
    names = [f"int8 on backend {n}" for n in range(6)]
    crowd = [Point(90 + 0.1 * n, 61.5, label=name) for n, name in enumerate(names)]
    far = Point(130, 60, label="alone")
    page = scatter([Series("s", (*crowd, far))], title="t", x_unit="/s", y_unit="%")
    found = re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(int8 on backend \d|alone)<', page)
    heights = {name: float(y) for y, name in found}
    assert set(heights) == {*names, "alone"}
    rows = sorted(heights[name] for name in names)
    assert all(b - a >= 14 for a, b in pairwise(rows))
    dots = re.findall(r'<circle[^>]* cy="([\d.]+)"', page)
    assert heights["alone"] == float(dots[-1])  # which nothing pushes away
