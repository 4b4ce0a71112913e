"""The live view's page in a real browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from live_parts import grey_frame, half_and_half, until

from segedge.live.channel import LiveSink

ROAD, CAR, GREY = (128, 64, 128), (0, 0, 255), (100, 100, 100)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Pages of a fresh browser profile; an error in the page's script fails the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_it(url: str, *, size: tuple[int, int] = (1600, 900), **options: Any) -> Any:
        viewport = {"width": size[0], "height": size[1]}
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not errors


PIXEL = """([number, share]) => {
    const canvas = document.querySelectorAll("#stage canvas")[number];
    if (!canvas) return [0, 0, 0, 0];
    const pen = canvas.getContext("2d");
    const x = Math.floor(canvas.width * share), y = canvas.height >> 1;
    return [...pen.getImageData(x, y, 1, 1).data];
}"""


def pixel(page: Any, share: float, *, number: int = 0) -> tuple[int, ...]:
    """RGBA of a point at half height, ``share`` of the width from the left."""
    return tuple(page.evaluate(PIXEL, [number, share]))


def shows(page: Any, share: float, rgb: tuple[float, ...], *, number: int = 0) -> None:
    """Wait until the point has the colour, give or take what JPEG does."""

    def fits() -> bool:
        found = pixel(page, share, number=number)[:3]
        return all(abs(a - b) <= 4 for a, b in zip(found, rgb, strict=True))

    until(fits, lambda: page.wait_for_timeout(20))


def comes_true(page: Any, script: str) -> None:
    """Wait for an expression; Playwright's own way is refused by the page's content policy."""
    until(lambda: bool(page.evaluate(script)), lambda: page.wait_for_timeout(20))


def blend(rgb: tuple[int, ...], opacity: float) -> tuple[float, ...]:
    return tuple(opacity * c + (1 - opacity) * g for c, g in zip(rgb, GREY, strict=True))


@pytest.fixture
def page(view: Any, open_page: Callable[..., Any]) -> Any:
    """A page that shows one frame: grey, the left half road, the right half car."""
    sink = view.sink("front.mp4", model="street.onnx", backend="fake backend")
    sink.write(grey_frame(7), half_and_half())
    page = open_page(view.url)
    page.wait_for_selector(".tile canvas")
    shows(page, 0.25, blend(ROAD, 0.5))
    return page


def test_a_class_is_switched_off_and_on(page: Any) -> None:
    shows(page, 0.75, blend(CAR, 0.5))
    car = page.get_by_role("switch", name="car")
    assert car.get_attribute("aria-checked") == "true"
    car.click()
    assert car.get_attribute("aria-checked") == "false"
    shows(page, 0.75, GREY)
    shows(page, 0.25, blend(ROAD, 0.5))
    page.get_by_role("button", name="none").click()
    shows(page, 0.25, GREY)
    page.get_by_role("button", name="all").click()
    shows(page, 0.75, blend(CAR, 0.5))


def test_modes_and_opacity_by_mouse_and_by_key(page: Any) -> None:
    page.get_by_label("mask").check()
    shows(page, 0.25, ROAD)
    page.keyboard.press("1")
    shows(page, 0.25, GREY)
    page.keyboard.press("2")
    shows(page, 0.25, blend(ROAD, 0.5))
    page.keyboard.press("p")
    page.keyboard.press("p")
    shows(page, 0.25, blend(ROAD, 0.6))
    page.get_by_label("opacity").fill("100")
    shows(page, 0.25, ROAD)
    page.keyboard.press("3")
    page.reload()
    shows(page, 0.25, ROAD)
    assert page.get_by_label("mask").is_checked(), "the browser remembers the look"


def test_the_legend_tells_the_shares(page: Any) -> None:
    until(
        lambda: "50.0 %" in page.locator("#legend").inner_text(), lambda: page.wait_for_timeout(50)
    )
    assert page.locator("#legend li").all_inner_texts()[2].split() == ["tree", "0.0", "%"]


def test_the_line_of_truth(page: Any, view: Any) -> None:
    sink = LiveSink(view._hub.channels[0])
    stats = {"dropped": 12, "fps": 29.94, "latency_ms": {"p50": 33.3, "p95": 41.0}}
    view.publish(stats, source=sink)
    comes_true(page, "document.querySelector('#truth').innerText.includes('29.9')")
    words = " ".join(page.locator("#truth").inner_text().split())
    assert words == "29.9 fps 33 / 41 ms latency, p50 / p95 12 dropped fake backend street.onnx"


def test_the_line_of_motion(page: Any, view: Any) -> None:
    sink = LiveSink(view._hub.channels[0])

    def line() -> str:
        return str(page.evaluate("document.querySelector('#truth .motion')?.innerText ?? ''"))

    def comes(text: str) -> None:
        until(lambda: line() == text, lambda: page.wait_for_timeout(20))

    motion = {"frames": 30, "network_frames": 8, "agreement": None, "key_age_ms": 7.25}
    view.publish({"motion": motion}, source=sink)
    comes("network every 3.8, key 7.3 ms old")
    motion = {"frames": 60, "network_frames": 18, "agreement": 0.9874, "key_age_ms": 66.4}
    view.publish({"motion": motion}, source=sink)
    comes("network every 3, agreement 98.7 %, key 66 ms old")
    motion |= {"frames": 90, "agreement": 0.9911, "key_age_ms": 1100.0}
    view.publish({"motion": motion}, source=sink)
    comes("network every 3, agreement 99.1 %, key 1100 ms old")
    view.publish({}, source=sink)
    comes("")


def test_the_snapshot_is_the_picture_as_shown(page: Any) -> None:
    from PIL import Image

    page.get_by_label("mask").check()
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "front.mp4-000007.png"
    with open(download.value.path(), "rb") as file:  # noqa: PTH123
        picture = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
    assert picture.shape == (48, 64, 3)
    assert tuple(picture[20, 10]) == ROAD
    assert tuple(picture[20, 50]) == CAR


def test_pause_stops_the_traffic(page: Any, view: Any) -> None:
    channel = view._hub.channels[0]
    page.keyboard.press(" ")
    until(lambda: not channel._is_watched)
    assert page.locator("#status").inner_text() == "paused"
    before = channel.message_number
    page.keyboard.press(" ")
    until(lambda: channel._is_watched)
    view._hub.channels[0].offer(grey_frame(8), half_and_half())
    until(lambda: channel.message_number > before)


def test_focus_is_visible_and_everything_has_a_name(page: Any) -> None:
    names = page.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas")]
            .filter((e) => e.checkVisibility())
            .map((e) => e.ariaLabel || e.innerText || e.labels?.[0]?.innerText || "")"""
    )
    assert len(names) >= 10
    assert all(names)
    for _ in range(3):
        page.keyboard.press("Tab")
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert style == "solid"
    assert page.evaluate("document.activeElement.tagName") in ("BUTTON", "INPUT")


def test_several_sources_side_by_side_and_one_alone(view: Any, open_page: Any) -> None:
    front, rear = view.sink("front"), view.sink("rear")
    front.write(grey_frame(1), half_and_half())
    rear.write(grey_frame(1), half_and_half())
    page = open_page(view.url)
    comes_true(page, "document.querySelectorAll('.tile canvas').length === 2")
    shows(page, 0.25, blend(ROAD, 0.5), number=0)
    shows(page, 0.75, blend(CAR, 0.5), number=1)
    page.get_by_role("button", name="rear").click()
    assert [tile.is_visible() for tile in page.locator(".tile").all()] == [False, True]
    until(lambda: not view._hub.channels[0]._is_watched)
    page.locator("body").click(position={"x": 2, "y": 2})
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    assert [tile.is_visible() for tile in page.locator(".tile").all()] == [True, False]
    page.keyboard.press("g")
    assert all(tile.is_visible() for tile in page.locator(".tile").all())


def test_the_token_page_and_the_address_bar(make_view: Any, open_page: Any) -> None:
    view = make_view(token="s3cret")
    view.sink("front").write(grey_frame(1), half_and_half())
    page = open_page(f"http://{view.address}/")
    assert "needs its token" in page.inner_text("h1")
    page.get_by_label("token").fill("wrong")
    page.get_by_role("button", name="open").click()
    assert "does not fit" in page.inner_text("h1")
    page.get_by_label("token").fill("s3cret")
    page.get_by_role("button", name="open").click()
    shows_frame = "document.querySelector('.tile canvas')?.width === 64"
    comes_true(page, shows_frame)
    assert "s3cret" not in page.url
    page.reload()
    comes_true(page, shows_frame)


def test_the_page_reconnects_to_a_server_that_came_back(make_view: Any, open_page: Any) -> None:
    first = make_view()
    first.sink("front").write(grey_frame(1), half_and_half())
    page = open_page(first.url)
    page.wait_for_selector(".tile canvas")
    shows(page, 0.25, blend(ROAD, 0.5))
    first.close()
    comes_true(page, "document.querySelector('#status').innerText.startsWith('ended')")
    second = make_view(port=first.address.port, title="again")
    swapped = half_and_half()
    swapped.labels = swapped.labels[:, ::-1].copy()
    second.sink("front").write(grey_frame(2), swapped)
    shows(page, 0.25, blend(CAR, 0.5))
    assert page.title() == "again"
    assert page.locator("#status").inner_text() == "live"


def test_a_server_with_another_token_asks_for_it(make_view: Any, open_page: Any) -> None:
    first = make_view(token="first")
    page = open_page(first.url)
    comes_true(page, "document.querySelector('#status').innerText !== 'connecting'")
    first.close()
    make_view(port=first.address.port, token="second")
    asked = page.get_by_text("That token does not fit")
    asked.wait_for()
    assert asked.is_visible()


@pytest.mark.parametrize("size", [(390, 844), (1600, 900)])
def test_nothing_sticks_out(view: Any, open_page: Any, size: tuple[int, int]) -> None:
    """No sideways scrolling; on a wide screen no scrolling at all."""
    sink = view.sink(
        "a rather long name of a source, as addresses are rtsp://camera.local:554/main"
    )
    sink.write(grey_frame(1, height=360, width=640), half_and_half(360, 640))
    page = open_page(view.url, size=size)
    comes_true(page, "document.querySelector('.tile canvas')?.width === 640")
    root = page.evaluate(
        "(({scrollWidth: w, scrollHeight: h}) => [w, h])(document.documentElement)"
    )
    assert root[0] <= size[0]
    box = page.locator(".tile canvas").bounding_box()
    if size[0] > 1000:
        assert root[1] <= size[1]
        assert box["width"] > 0.7 * size[0]
    else:
        assert box["width"] > 0.9 * size[0]
        assert page.locator("#truth").bounding_box()["y"] < size[1] / 2


def test_nothing_comes_from_elsewhere(view: Any, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(view.url)
    comes_true(page, "document.querySelector('#status').innerText !== 'connecting'")
    context.close()
    assert len(asked) >= 5
    assert all(url.startswith(view.url) for url in asked)
