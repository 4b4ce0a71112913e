"""Sliding windows: every pixel has the mean of the windows that see it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import segedge
from segedge.backends.base import TensorSpec
from segedge.backends.fake import FakeBackend
from segedge.backends.registry import Choice
from segedge.card.card import ModelCard
from segedge.card.geometry import Scaling, Size
from segedge.cpu.windows import axis_knots, window_taps
from segedge.errors import UsageError
from segedge.options.cleaning import Cleaning
from segedge.options.effect import Effect
from segedge.options.frame import FrameOptions
from segedge.options.sliding import OVERLAP, Slide, parse_slide, starts
from segedge.options.style import OverlayStyle
from segedge.reference import effects as reference_effects
from segedge.reference import windows as reference_slide
from segedge.segment.segmenter import Segmenter
from tests.small_model import run_verb, write_model

PALETTE = ((0, 0, 0), (0, 0, 255), (0, 255, 0))
NAMES = ("a", "b", "c")


def make_card(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "classes": NAMES, "palette_rgb": PALETTE, "input_height": 32, "input_width": 48, "stride": 8
    }  # fmt: skip
    return ModelCard(**{**fields, **changes})


class Net:
    """Logits that depend on the whole window, of any window size and batch."""

    memory = "host"
    description = "test"

    def __init__(self, card: ModelCard, *, size: Size | None, batch: bool = False) -> None:
        self._card = card
        self.shapes: list[tuple[int, ...]] = []
        first = None if batch else 1
        height, width = (size.height, size.width) if size else (None, None)
        shape = (first, 3, height, width)
        if card.input_layout == "nhwc":
            shape = (first, height, width, 3)
        outs = (first, card.channels, None, None)
        if card.logits_layout == "nhwc":
            outs = (first, None, None, card.channels)
        self.specs = (
            (TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", outs),)
        )  # fmt: skip

    def one(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        planes = tensor.transpose(2, 0, 1) if self._card.input_layout == "nhwc" else tensor
        stride = self._card.stride
        low = np.asarray(planes[:, ::stride, ::stride], np.float64)
        tilt = np.linspace(-1, 1, low.shape[1])[:, None] * np.linspace(0, 1, low.shape[2])
        mixed = [
            low[c % 3] * (1 + 0.3 * c) + np.roll(low[(c + 1) % 3], c, axis=1) * 0.5 + tilt * (c - 1)
            for c in range(self._card.channels)
        ]
        logits = np.asarray(np.stack(mixed), np.float32)
        if self._card.mask_scale is not None:  # logarithms of sums, some of them next to nothing
            logits = np.log(1.0 / (1.0 + np.exp(-logits)) + np.float32(1e-4))
        return logits.transpose(1, 2, 0) if self._card.logits_layout == "nhwc" else logits

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        self.shapes.append(inputs[0].shape)
        found = np.ascontiguousarray(np.stack([self.one(tensor) for tensor in inputs[0]]))
        if outputs is None:
            return [found]
        np.copyto(outputs[0], found)
        return outputs

    def close(self) -> None:
        pass


def image_of(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 9, 2), max(width // 9, 2), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def expected_logits(
    image: NDArray[np.uint8], card: ModelCard, window: Size, slide: Slide
) -> NDArray[np.float64]:
    frame = Size(*image.shape[:2])
    net = Net(card, size=None)
    outputs = {}
    seen = reference_slide.seen_size(frame, card)
    for corner in reference_slide.corners(seen, window, slide):
        tensor = reference_slide.preprocess(image, card, window, corner)
        outputs[corner] = net.one(tensor[0])[None]
    return reference_slide.interpolate(outputs, card, frame, window)


def check(card: ModelCard, size: tuple[int, int], slide: Slide, *, fixed: bool = True) -> None:
    image = image_of(*size)
    window = slide.window or card.input_size
    net = Net(card, size=window if fixed else None, batch=not fixed)
    with Segmenter(card, net, threads=2, options=FrameOptions(slide=slide)) as segmenter:
        result = segmenter(image, outputs=("labels", "overlay", "class_pixels", "confidence"))
        labels, margin = result.labels, result.margin
    values = np.sort(wanted := expected_logits(image, card, window, slide), axis=0)
    gap = values[-1] - values[-2]
    clear = gap > 1e-4 * np.ptp(wanted)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels[clear], wanted.argmax(axis=0)[clear])
    np.testing.assert_allclose(margin, gap, atol=2e-4 * np.ptp(wanted))
    probability = 1.0 / np.exp(values - values[-1]).sum(axis=0)
    np.testing.assert_allclose(result.confidence, probability, atol=1e-4)
    assert (
        list(result.class_pixels.values())
        == np.bincount(labels.ravel(), minlength=3)[: len(card.classes)].tolist()
    )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (80, 96), (77, 131), (33, 49), (20, 130), (15, 17)])
@pytest.mark.parametrize("overlap", [0, OVERLAP, 0.5, 5, Size(30, 47)])
def test_every_pixel_has_the_mean_of_its_windows(
    size: tuple[int, int], overlap: Any, align_corners: bool
) -> None:
    if overlap == Size(30, 47):
        size = min(size, (40, 56))
    check(make_card(align_corners=align_corners), size, Slide(overlap=overlap))


@pytest.mark.parametrize(
    "changes",
    [
        {"input_layout": "nhwc", "logits_layout": "nhwc"},
        {"classes": NAMES[:2], "palette_rgb": PALETTE[:2], "activation": "sigmoid"},
        {"stride": 1},
        {"stride": 16, "align_corners": True},
        {"color": "bgr", "pad_value": 0},
    ],
)
def test_whatever_the_card_says(changes: dict[str, Any]) -> None:
    check(make_card(**changes), (61, 90), Slide(overlap=0.5))


@pytest.mark.parametrize("size", [(61, 90), (90, 61), (20, 30), (32, 140)])
@pytest.mark.parametrize("overlap", [0, 0.5])
@pytest.mark.parametrize("mask_scale", [None, 2])
def test_windows_lie_on_the_frame_as_the_card_resizes_it(
    size: tuple[int, int], overlap: float, mask_scale: int | None
) -> None:
    card = make_card(
        fit="crop", scaling=Scaling(shortest=32), resize="pillow-bilinear", mask_scale=mask_scale
    )
    slide, image = Slide(overlap=overlap), image_of(*size)
    wanted = expected_logits(image, card, card.input_size, slide)
    net = Net(card, size=card.input_size)
    with Segmenter(card, net, threads=2, options=FrameOptions(slide=slide)) as segmenter:
        labels = segmenter(image).labels
    # The tail reads grid points that lie between two pixels of the resized frame, too.
    assert np.mean(labels == wanted.argmax(axis=0)) > 0.99


def test_a_free_network_takes_the_size_asked_for_and_batches() -> None:
    card = make_card()
    check(card, (70, 100), Slide(Size(40, 24), 0.25), fixed=False)
    net = Net(card, size=None, batch=True)
    with Segmenter(
        card, net, options=FrameOptions(slide=Slide(Size(40, 24), 0, batch=4))
    ) as segmenter:
        segmenter(image_of(80, 72))
    # Six windows in even calls.
    assert net.shapes == [(3, 3, 40, 24)] * 2
    net = Net(card, size=card.input_size)
    with Segmenter(card, net, options=FrameOptions(slide=Slide())) as segmenter:
        segmenter(image_of(64, 48))
    assert set(net.shapes) == {(1, 3, 32, 48)}


def test_one_window_of_the_frame_s_size_is_the_whole_frame() -> None:
    card = make_card(align_corners=True)
    image = image_of(32, 48)
    answers = []
    for slide in (None, Slide(overlap=0.5)):
        with Segmenter(card, FakeBackend(card), options=FrameOptions(slide=slide)) as segmenter:
            answers.append(segmenter(image, outputs=("labels", "confidence")))
    np.testing.assert_array_equal(answers[0].labels, answers[1].labels)
    np.testing.assert_allclose(answers[0].confidence, answers[1].confidence, atol=1e-5)


def test_results_and_frame_sizes_do_not_disturb_each_other() -> None:
    card = make_card()
    with Segmenter(
        card, FakeBackend(card), options=FrameOptions(slide=Slide(overlap=0.5))
    ) as segmenter:
        images = [image_of(70, 90, 1), image_of(40, 60, 2), image_of(70, 90, 3)]
        alone = [segmenter(image).labels.copy() for image in images]
        results = [segmenter(image) for image in images]
        for labels, result in zip(alone, results, strict=True):
            np.testing.assert_array_equal(labels, result.labels)
        assert set(results[0].times.milliseconds) == {"preprocess", "network", "tail"}


def test_nan_of_a_window_wins_nowhere() -> None:
    card = make_card()

    def network(tensor: NDArray[Any]) -> NDArray[Any]:
        logits = np.zeros((1, 3, 4, 6), np.float32)
        logits[:, 1], logits[:, 2] = 5.0, np.nan
        return logits

    backend = FakeBackend(card, network=network)
    with Segmenter(card, backend, options=FrameOptions(slide=Slide(overlap=0.5))) as segmenter:
        assert np.unique(segmenter(image_of(64, 96)).labels).tolist() == [1]


def test_labels_are_cleaned_behind_the_windows() -> None:
    card = make_card()
    image = image_of(90, 120, 5)
    with Segmenter(
        card,
        FakeBackend(card),
        options=FrameOptions(slide=Slide(), cleaning=Cleaning(min_region=400)),
    ) as segmenter:
        assert all(region.area >= 400 for region in segmenter(image).regions())


@settings(max_examples=60, deadline=None)
@given(
    frame=st.integers(1, 90),
    window=st.integers(1, 40),
    grid=st.integers(1, 40),
    step=st.integers(1, 40),
    align_corners=st.booleans(),
)
def test_knots_carry_the_mean_to_every_pixel(
    frame: int, window: int, grid: int, step: int, align_corners: bool
) -> None:
    """Along an axis: interpolating the knots gives what averaging pixel by pixel gives."""
    grid, step = min(grid, window), min(step, window)
    begin = starts(frame, window, step)
    knots = axis_knots(frame, window, grid, begin, align_corners=align_corners)
    assert knots[0] == 0
    assert knots[-1] == frame - 1
    assert (np.diff(knots) > 0).all()
    assert knots.size <= frame
    values = np.random.default_rng(frame).normal(size=(len(begin), grid))
    whole = np.zeros(knots.size)
    taps = window_taps(knots, window, grid, begin, align_corners=align_corners)
    for own, tap in zip(values, taps, strict=True):
        mixed = own[tap.low] * (1 - tap.share) + own[tap.high] * tap.share
        whole[tap.first : tap.first + tap.low.size] += mixed * tap.weight
    pixels = np.arange(frame)
    total, seen = np.zeros(frame), np.zeros(frame)
    for own, start in zip(values, begin, strict=True):
        under = pixels[start : start + window]
        if align_corners:
            position = (under - start) * ((grid - 1) / max(window - 1, 1))
        else:
            position = (under - start + 0.5) * grid / window - 0.5
        total[under] += np.interp(position, np.arange(grid), own)
        seen[under] += 1
    assert (seen > 0).all()
    np.testing.assert_allclose(np.interp(pixels, knots, whole), total / seen, atol=1e-9)


def test_windows_lie_as_in_mmsegmentation() -> None:
    assert starts(1024, 512, 341) == (0, 341, 512)
    assert starts(512, 512, 341) == (0,)
    assert starts(513, 512, 512) == (0, 1)
    assert starts(100, 512, 341) == (0,)
    assert Slide().steps(Size(512, 769)) == Size(341, 512)
    assert Slide(overlap=0.1).steps(Size(10, 20)) == Size(9, 18)
    assert Slide(overlap=171).steps(Size(512, 512)) == Size(341, 341)


def test_what_is_typed() -> None:
    assert parse_slide(None, None) is None
    assert parse_slide("auto", None) == Slide()
    assert parse_slide("512x1024", "0.5") == Slide(Size(512, 1024), Fraction(1, 2))
    assert parse_slide("512", "1/3") == Slide(Size(512, 512))
    assert parse_slide("512", "171x200") == Slide(Size(512, 512), Size(171, 200))


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        (None, "0.5", "--overlap is for --slide"),
        ("big", None, "no size"),
        ("512", "half", "no overlap 'half'"),
        ("512", "1/0", "no overlap"),
        ("512", "-1", "no overlap -1"),
        ("512", "1.5", "no overlap"),
        ("512", "512", "overlap by less than their size"),
        ("512x64", "64", "overlap by less than their size"),
        ("0x5", None, "a size must be positive"),
    ],
)
def test_nonsense_is_refused(window: str | None, overlap: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_slide(window, overlap)


def test_windows_that_a_network_cannot_take() -> None:
    card = make_card()
    with pytest.raises(UsageError, match="one size only") as caught:
        Segmenter(card, FakeBackend(card), options=FrameOptions(slide=Slide(Size(64, 64))))
    assert "--slide 32x48" in (caught.value.fix or "")
    with pytest.raises(UsageError, match="overlap by less"):
        Segmenter(card, FakeBackend(card), options=FrameOptions(slide=Slide(overlap=32)))
    labels = make_card(head="labels", stride=1)
    backend = FakeBackend(labels, network=lambda x: np.zeros((1, 32, 48), np.int64))
    with pytest.raises(UsageError, match="averaged by their logits"):
        Segmenter(labels, backend, options=FrameOptions(slide=Slide()))
    with pytest.raises(UsageError, match="at least 1 window"):
        Slide(batch=0)


def test_a_gpu_refuses_windows_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu(FakeBackend):
        memory = "cuda"  # type: ignore[assignment]
        description = "a GPU"

    card = make_card()
    choice = Choice(OnGpu(card), "tensorrt", "asked for")
    monkeypatch.setattr("segedge.segment.load.open_backend", lambda *_, **__: choice)
    with pytest.raises(UsageError, match="do not slide on the GPU") as caught:
        segedge.load(tmp_path / "m.onnx", card=card, backend="tensorrt", slide=Slide(), check=False)
    assert caught.value.facts["backend"] == "a GPU"
    assert "openvino" in (caught.value.fix or "")


def test_as_a_user_types_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = write_model(tmp_path / "m.onnx", has_card=True)
    image = np.zeros((100, 150, 3), np.uint8)
    image[:, 75:] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    out = tmp_path / "out.png"
    run_verb(
        "run", model, tmp_path / "a.png", "-o", out, "--masks", "labels",
        "--slide", "auto", "--overlap", "0.5", "--backend", "onnxruntime",
    )  # fmt: skip
    labels = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    with segedge.load(model, backend="onnxruntime", slide=Slide(overlap=0.5)) as segmenter:
        np.testing.assert_array_equal(segmenter(image).labels, labels)
    done = run_verb("run", model, tmp_path / "a.png", "--slide", "512x512", code=2)
    assert "one size only" in done.stderr
    assert "--slide 48x64" in done.stderr
    words = ("--slide", "auto", "--harvest", tmp_path / "h")
    assert "harvest scores" in run_verb("run", model, tmp_path / "a.png", *words, code=2).stderr


def test_effects_see_the_mean_of_the_windows_too() -> None:
    card, slide = make_card(), Slide(overlap=0.5)
    image = image_of(61, 90)
    wanted = expected_logits(image, card, card.input_size, slide)
    style = OverlayStyle(effect=Effect("heat", heat="entropy"), opacity=0.5)
    with Segmenter(
        card, Net(card, size=card.input_size), options=FrameOptions(slide=slide)
    ) as segmenter:
        heat = segmenter(image).overlay(style)
    below = wanted - wanted.max(axis=0)
    total = np.exp(below).sum(axis=0)
    doubt = (np.log(total) - (np.exp(below) * below).sum(axis=0) / total) / np.log(3)
    expected = reference_effects.heat(image, doubt, 0.5)
    assert np.abs(heat.astype(int) - expected).max() <= 4  # one step of the colours
