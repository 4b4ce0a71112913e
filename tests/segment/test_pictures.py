"""What people do with results: effects, files, notebooks, contact sheets."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import segedge
from segedge.backends.fake import FakeBackend
from segedge.errors import SourceError, UsageError
from segedge.frames.frame import Frame
from segedge.options.effect import EFFECTS, Effect
from segedge.options.frame import FrameOptions
from segedge.options.style import OverlayStyle
from segedge.reference import effects as truth
from segedge.segment import pictures
from segedge.segment.result import Result
from segedge.segment.segmenter import Segmenter
from tests.brightness import CARD, image_of


def result_of(style: OverlayStyle | None = None, **outputs: Any) -> Result:
    with Segmenter(
        CARD, FakeBackend(CARD), threads=1, options=FrameOptions(style=style or OverlayStyle())
    ) as segmenter:
        return segmenter(Frame(image_of(96, 128), name="a.png"), **outputs)


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_in_one_call_and_as_a_style(name: str) -> None:
    effect = Effect(name, "#ff0000" if name == "replace" else "")
    once = result_of().picture(effect, classes=("day", "dusk"))
    style = OverlayStyle(classes=("day", "dusk"), effect=effect)
    result = result_of(style, outputs=("labels", "overlay", "confidence", "class_pixels"))
    assert np.array_equal(result.overlay(), once)
    assert once.shape == effect.shape(96, 128)
    assert result.overlay() is result.overlay()


def test_masks_and_pairs_are_exact() -> None:
    result = result_of()
    palette = [color[::-1] for color in CARD.palette_rgb]
    assert np.array_equal(result.picture("mask"), truth.mask(result.labels, palette))
    one = result.picture("mask", classes=("day",))
    assert np.array_equal(one, truth.mask(result.labels, palette, [2]))
    pair = result.picture("side-by-side")
    assert np.array_equal(pair[:, :128], image_of(96, 128))
    assert np.array_equal(pair[:, 128:], result.overlay())


def test_legends_where_colours_mean_something() -> None:
    for name in ("mask", "outline", "heat", "side-by-side"):
        style = OverlayStyle(effect=Effect(name))
        plain = result_of(style).overlay()
        with_legend = result_of(OverlayStyle(effect=Effect(name), legend=True)).overlay()
        changed = (plain != with_legend).any(axis=2)
        assert changed.any()
        left = 128 if name == "side-by-side" else 0
        assert not changed[:48].any()
        assert not changed[:, :left].any()
    with pytest.raises(UsageError, match="no legend on cutout: it shows no class colours"):
        OverlayStyle(legend=True, effect=Effect("cutout"), classes=("day",))
    kept = result_of(OverlayStyle(legend=True)).picture("cutout", classes=("day",))
    assert kept.shape == (96, 128, 4)


def test_what_a_model_cannot_have_is_refused() -> None:
    result = result_of()
    with pytest.raises(UsageError, match="no effect 'blurr'; did you mean 'blur'"):
        result.picture("blurr")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no class 'dai'; did you mean 'day'"):
        result.picture("blur", classes=("dai",))
    with pytest.raises(UsageError, match="blur needs the classes to keep"):
        result.picture("blur")


def test_saving_by_ending(tmp_path: Path) -> None:
    result = result_of()
    assert result.save(tmp_path / "a.png") == tmp_path / "a.png"
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png")), result.overlay())
    result.save(tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), result.labels)
    result.save(tmp_path / "l.png", content="labels")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "l.png")), result.labels)
    result.save(tmp_path / "p.png", content="palette")
    assert Image.open(tmp_path / "p.png").mode == "P"
    result.save(tmp_path / "c.png", content="panoptic")
    ids = np.asarray(Image.open(tmp_path / "c.png"))[..., 0]
    assert np.array_equal(ids, result.labels + 1)
    assert (tmp_path / "c.json").exists()
    cutout = result_of(OverlayStyle(classes=("day",), effect=Effect("cutout")))
    cutout.save(tmp_path / "o.webp")
    read = cv2.imread(str(tmp_path / "o.webp"), cv2.IMREAD_UNCHANGED)
    assert read.shape == (96, 128, 4)
    with pytest.raises(UsageError, match=r"cannot write a picture with opacity as o\.jpg"):
        cutout.save(tmp_path / "o.jpg")
    with pytest.raises(UsageError, match=r"a picture as a\.pgn; did you mean '\.png'"):
        result.save(tmp_path / "a.pgn")
    with pytest.raises(UsageError, match="no content 'label'; did you mean 'labels'"):
        result.save(tmp_path / "a.png", content="label")
    with pytest.raises(UsageError, match=r"palette is a PNG, not a\.jpg"):
        result.save(tmp_path / "a.jpg", content="palette")
    assert not (tmp_path / "a.pgn").exists()


def test_notebooks_show_the_overlay() -> None:
    style = OverlayStyle(legend=True)
    result = result_of(style)
    png = np.frombuffer(result._repr_png_(), np.uint8)
    assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), result.overlay())


def test_showing_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    display = ModuleType("IPython.display")
    display.display = lambda data, raw: shown.append(data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    result = result_of()
    assert result.show() == "notebook"
    assert shown == [{"image/png": result._repr_png_()}]


def test_showing_without_notebook_and_window(capsys: pytest.CaptureFixture[str]) -> None:
    image = image_of(96, 128)
    png = bytes(cv2.imencode(".png", image)[1])
    place = pictures.show_picture(image, lambda: png, why_no_window=lambda: "no display")
    try:
        assert capsys.readouterr().out == f"{place}\n"
        assert np.array_equal(cv2.imread(place), image)
    finally:
        Path(place).unlink()


def test_contact_sheets_of_results_arrays_and_folders(tmp_path: Path) -> None:
    result = result_of()
    sheet = segedge.contact_sheet([result, image_of(96, 128), result.picture("mask")], columns=2)
    assert sheet.shape == (2 * (240 + 18 + 6) + 6, 2 * 326 + 6, 3)
    cv2.imwrite(str(tmp_path / "b.png"), image_of(96, 128))
    cv2.imwrite(str(tmp_path / "a.png"), image_of(96, 128)[..., 0])
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "notes.txt").touch()
    assert segedge.contact_sheet(tmp_path, columns=3, tile_width=64).shape[1] == 2 * 70 + 6
    with pytest.raises(SourceError, match="no folder"):
        segedge.contact_sheet(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no pictures in"):
        segedge.contact_sheet(str(tmp_path / "empty"))
