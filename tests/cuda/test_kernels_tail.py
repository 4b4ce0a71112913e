"""The tail's kernels against the reference and the CPU twin.

They run on the CPU through the shim and, where there is one, on a GPU: see conftest.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shim.cases import EXAMPLES, Buffer, LogitConfig, Placed, a_card, placements, random_logits
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge.card.geometry import AxisMap, Geometry, Region, Size
from segedge.card.labels import Rgb
from segedge.cpu.overlay import Blend as HostBlend
from segedge.cuda.overlay import Blend, planes_of_rgb, yuv_of_rgb
from segedge.cuda.runtime.program import Launcher, Plane
from segedge.cuda.tail import Picture, Tail
from segedge.errors import UsageError
from segedge.reference import frame as reference
from segedge.reference.look import Tints


def _bgr(palette_rgb: Sequence[Rgb]) -> list[Rgb]:
    return [color[::-1] for color in palette_rgb]


@dataclass(frozen=True)
class Config(LogitConfig):
    """What the kernels are compiled for."""

    classes: int
    dtype: str = "float32"
    layout: str = "nchw"
    sigmoid: bool = False
    overlay: str = ""
    confidence: str = ""
    count: bool = False
    label_dtype: str = ""
    only: bool | None = None
    """Only aligned (True) or unaligned (False) rows."""
    probabilities: bool = False

    def __str__(self) -> str:
        kind = f"{self.classes}-{self.dtype}-{self.layout}" + "-sigmoid" * self.sigmoid
        rest = (
            self.overlay,
            self.confidence,
            "count" * self.count,
            "of shares" * self.probabilities,
        )
        return "-".join(filter(None, (kind, *rest)))


CONFIGS = [
    Config(1, overlay="bgr", count=True, only=False),
    Config(2, sigmoid=True, overlay="bgr", count=True),
    Config(2, "float16", "nhwc", sigmoid=True, confidence="probability", only=True),
    Config(2, sigmoid=True, confidence="margin", only=False),
    Config(2, "float16", confidence="margin", count=True, only=True),
    Config(11, "float16", "nhwc", overlay="bgr", count=True, only=True),
    Config(19, overlay="bgr", count=True),
    Config(19, overlay="nv12"),
    Config(19, "float16", confidence="probability"),
    Config(19, "float32", "nhwc", overlay="bgr", confidence="margin", count=True, only=True),
    Config(150, overlay="bgr", label_dtype="uint16", only=True),
    Config(150, "float16", "nhwc", confidence="probability", count=True, only=False),
    Config(2, sigmoid=True, confidence="probability", count=True, probabilities=True),
    Config(11, overlay="bgr", confidence="probability", count=True, probabilities=True, only=True),
    Config(19, "float16", "nhwc", confidence="probability", probabilities=True, only=True),
    Config(19, confidence="margin", probabilities=True, only=False),
    Config(300, overlay="bgr", count=True),
    Config(300, "float16", overlay="nv12", confidence="margin", only=True),
]


class Run:
    """One call of the tail with everything that a configuration asks for."""

    def __init__(self, config: Config, placed: Placed, launcher: Launcher) -> None:
        self.config, self.placed = config, placed
        self.card, self.geometry = config.card(placed), placed.geometry
        self.rng = np.random.default_rng(placed.seed)
        self.logits = random_logits(self.card, placed.grid, config.dtype, placed.seed)
        if config.confidence:
            self.logits = np.nan_to_num(self.logits, nan=-3.0, posinf=3.0, neginf=-3.0)
        self.tail = Tail(self.card, self.geometry, placed.grid, dtype=config.dtype)
        self.label_dtype = np.dtype(config.label_dtype or self.tail.label_dtype)
        self.launcher = launcher

    def buffer(self, shape: tuple[int, ...], dtype: object) -> Buffer:
        return Buffer(shape, dtype, aligned=self.placed.aligned)

    def launch(self, region: Region | None = None) -> None:
        frame = self.geometry.frame
        size = region.size if region else frame
        h, w = size.height, size.width
        shape = (h, w, 3) if self.config.overlay == "bgr" else (h, w)
        full = (frame.height, frame.width, *shape[2:])
        self.labels = self.buffer((h, w), self.label_dtype)
        self.confidence = self.buffer((h, w), np.float32)
        self.overlay, self.frame = self.buffer(shape, np.uint8), self.buffer(full, np.uint8)
        self.frame.fill(self.rng.integers(0, 256, full))
        self.counts = np.full(self.config.classes, -1, np.int64)
        scratch = np.zeros(self.tail.scratch_bytes, np.uint8)
        self.tail.run(
            self.launcher, at(self.logits), at(scratch),
            labels=self.labels.plane, label_dtype=self.label_dtype,
            confidence=self.confidence.plane if self.config.confidence else None,
            confidence_kind=self.config.confidence or "probability",
            class_pixels=at(self.counts) if self.config.count else None,
            region=region, **self._painting(size),
        )  # fmt: skip

    def _painting(self, size: Size) -> dict[str, object]:
        if not self.config.overlay:
            return {}
        shares = self.rng.choice((0.0, 0.3, 0.5, 1.0), self.config.classes)
        self.shares = [float(share) for share in shares]
        palette = self.card.palette_rgb
        if self.config.overlay == "bgr":
            self.blend = Blend.from_tints(Tints.of(_bgr(palette), self.shares))
            pictures = Picture(self.overlay.plane), Picture(self.frame.plane)
        else:
            self.blend = Blend.from_tints(Tints.of(planes_of_rgb(palette), self.shares))
            frame = self.geometry.frame
            self.uv_in = self.buffer((frame.height // 2, frame.width), np.uint8)
            self.uv_in.fill(self.rng.integers(0, 256, self.uv_in.array.shape))
            self.uv_out = self.buffer((size.height // 2, size.width), np.uint8)
            pictures = (
                Picture(self.overlay.plane, self.uv_out.plane),
                Picture(self.frame.plane, self.uv_in.plane),
            )
        blend = at(self.blend.table)
        return {"overlay": pictures[0], "frame": pictures[1], "blend": blend}

    def check(self) -> None:
        expected = reference.labels(self.logits, self.card, self.geometry)
        clear = ~reference.ambiguous(self.logits, self.card, self.geometry)
        if not np.isfinite(self.logits).all():
            # 1e30 at a weight of 1e-16 wins: there the map's last bit decides, rightly or not.
            clear &= ~_near(self.placed, 0.0)
        labels = self.labels.array
        assert np.array_equal(labels[clear], expected[clear])
        top, left, bottom, right = self.geometry.seen()
        assert labels[top:bottom, left:right].max() < max(self.config.classes, 1)
        self.labels.assert_untouched_around()
        if self.config.count:
            counted = reference.class_pixels(labels, self.config.classes)
            assert np.array_equal(self.counts, counted)
        if self.config.confidence:
            truth = reference.confidence(
                self.logits, self.card, self.geometry, kind=self.config.confidence
            )
            np.testing.assert_allclose(self.confidence.array, truth, atol=4e-5, rtol=2e-5)
            self.confidence.assert_untouched_around()
        if self.config.overlay:
            {"bgr": self._check_bgr, "nv12": self._check_nv12}[self.config.overlay]()
            self.overlay.assert_untouched_around()

    def _check_bgr(self) -> None:
        """Bit for bit what the CPU twin's tables give."""
        host = HostBlend.of(self.card.palette_rgb, self.shares)
        labels = np.minimum(self.labels.array.astype(int), self.config.classes)
        weights, colors = host.weights[labels][..., None].astype(int), host.colors[labels, :3]
        painted = (self.frame.array * weights + colors.astype(int)) >> 8
        assert np.array_equal(self.overlay.array, painted)

    def _check_nv12(self) -> None:
        labels = np.minimum(self.labels.array.astype(int), self.config.classes)
        share = np.rint(256 * np.array([*self.shares, 0.0])).astype(int)[labels]
        yuv = yuv_of_rgb(self.card.palette_rgb, matrix="bt709", full_range=False)
        color = np.concatenate([yuv.astype(int), np.zeros((1, 3), int)])[labels]
        luma = (self.frame.array * (256 - share) + share * color[..., 0] + 128) >> 8
        assert np.array_equal(self.overlay.array, luma)
        h, w = labels.shape
        blocks = (256 - share).reshape(h // 2, 2, w // 2, 2).sum(axis=(1, 3))
        for channel in (1, 2):
            tint = (share * color[..., channel]).reshape(h // 2, 2, w // 2, 2).sum(axis=(1, 3))
            chroma = (self.uv_in.array[:, channel - 1 :: 2] * blocks + tint + 512) >> 10
            assert np.array_equal(self.uv_out.array[:, channel - 1 :: 2], chroma)
        self.uv_out.assert_untouched_around()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_everything_equals_the_reference(launcher: Launcher, config: Config):
    even = config.overlay == "nv12"
    fixed = {} if config.only is None else {"aligned": config.only}

    @settings(deadline=None, max_examples=EXAMPLES if config.classes <= 19 else EXAMPLES // 2)
    @given(placements(classes=config.classes, even=even, **fixed))
    def check(placed: Placed) -> None:
        run = Run(config, placed, launcher)
        run.launch()
        run.check()

    check()


@pytest.mark.parametrize("overlay", ["bgr", "nv12"])
def test_regions_are_cut_from_the_whole(launcher: Launcher, overlay: str):
    config = Config(19, overlay=overlay)
    step = 2 if overlay == "nv12" else 1

    @settings(deadline=None, max_examples=30)
    @given(placements(even=True), st.data())
    def check(placed: Placed, data: st.DataObject) -> None:
        whole, part = Run(config, placed, launcher), Run(config, placed, launcher)
        whole.launch()
        frame = placed.geometry.frame
        top = data.draw(st.integers(0, frame.height // step - 1)) * step
        left = data.draw(st.integers(0, frame.width // step - 1)) * step
        height = data.draw(st.integers(1, (frame.height - top) // step)) * step
        width = data.draw(st.integers(1, (frame.width - left) // step)) * step
        part.launch(Region(top, left, Size(height, width)))
        window = np.s_[top : top + height, left : left + width]
        clear = ~reference.ambiguous(whole.logits, whole.card, placed.geometry)[window]
        same = part.labels.array == whole.labels.array[window]
        assert np.all(same | ~clear)
        if np.all(same) and np.array_equal(part.frame.array, whole.frame.array):
            assert np.array_equal(part.overlay.array, whole.overlay.array[window])
        part.labels.assert_untouched_around()
        part.overlay.assert_untouched_around()

    check()


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int16"])
def test_labels_from_the_network_are_looked_up(launcher: Launcher, dtype: str):
    @settings(deadline=None, max_examples=40)
    @given(placements(aligned=True))
    def check(placed: Placed) -> None:
        card = a_card(11, head="labels", align_corners=placed.align_corners)
        frame = placed.geometry.frame
        rng = np.random.default_rng(placed.seed)
        low, high = (-3, 300) if dtype != "uint8" else (0, 256)
        grid = rng.integers(low, high, (1, placed.grid.height, placed.grid.width)).astype(dtype)
        labels = Buffer((frame.height, frame.width), np.uint8, aligned=True)
        counts = np.full(11, -1, np.int64)
        tail = Tail(card, placed.geometry, placed.grid, dtype=dtype)
        scratch = np.zeros(tail.scratch_bytes, np.uint8)
        tail.run(
            launcher, at(grid), at(scratch), labels=labels.plane, class_pixels=at(counts),
        )  # fmt: skip
        expected = reference.labels(grid, card, placed.geometry)
        halfway = _near(placed, 0.5)  # the map's last bit decides
        assert np.array_equal(labels.array[~halfway], expected[~halfway])
        assert np.array_equal(counts, reference.class_pixels(labels.array, 11))

    check()


def _near(placed: Placed, part: float) -> np.ndarray:
    """Pixels whose place in a cell is ``part``, but for the last bits of the map."""
    frame = placed.geometry.frame
    maps = placed.geometry.grid_from_frame(placed.grid, align_corners=placed.align_corners)

    def near(axis: AxisMap, pixels: int) -> np.ndarray:
        away = (axis.scale * np.arange(pixels) + axis.offset - part + 0.5) % 1.0 - 0.5
        return np.abs(away) < 1e-5

    return near(maps.y, frame.height)[:, None] | near(maps.x, frame.width)


def test_a_frame_may_be_painted_in_place(launcher: Launcher):
    geometry = Geometry.fit(Size(48, 96), Size(24, 48), "stretch")
    card, grid = a_card(5), Size(6, 12)
    logits = random_logits(card, grid, "float32", 5)
    frame = Buffer((48, 96, 3), np.uint8, aligned=True).fill(100)
    out = Buffer((48, 96, 3), np.uint8, aligned=True)
    tail, table = (
        Tail(card, geometry, grid),
        Blend.from_tints(Tints.of(_bgr(card.palette_rgb), 0.5)).table,
    )
    scratch = np.zeros(tail.scratch_bytes, np.uint8)
    for target in (out, frame):
        tail.run(
            launcher, at(logits), at(scratch), overlay=Picture(target.plane),
            frame=Picture(frame.plane), blend=at(table),
        )  # fmt: skip
    assert np.array_equal(out.array, frame.array)


def test_frames_as_large_as_the_grid_take_the_short_way(launcher: ShimLauncher | GpuLauncher):
    card, size = a_card(4), Size(9, 31)
    logits = random_logits(card, size, "float32", 1)
    labels = Buffer((9, 31), np.uint8, aligned=True)
    tail = Tail(card, Geometry.fit(size, size, "stretch"), size)
    scratch = np.zeros(tail.scratch_bytes, np.uint8)
    tail.run(launcher, at(logits), at(scratch), labels=labels.plane)
    assert [kernel.name for kernel in launcher.kernels] == ["tail_points", "tail_fill"]
    assert np.array_equal(labels.array, reference.argmax_grid(logits, card))


def test_what_does_not_go_together_is_refused():
    geometry, grid = Geometry.fit(Size(9, 9), Size(8, 8), "stretch"), Size(4, 4)
    plane = Plane(0, 16)
    nv12 = Picture(plane, plane)
    tail, refuse = Tail(a_card(), geometry, grid), ShimLauncher()
    with pytest.raises(UsageError, match="frame that it is painted on"):
        tail.run(refuse, 0, 0, overlay=Picture(plane))
    with pytest.raises(UsageError, match="both be BGR"):
        tail.run(refuse, 0, 0, overlay=Picture(plane), frame=Picture(plane, plane), blend=1)
    with pytest.raises(UsageError, match="even sizes"):
        tail.run(refuse, 0, 0, overlay=nv12, frame=nv12, blend=1)
    with pytest.raises(UsageError, match="leaves the frame"):
        tail.run(refuse, 0, 0, labels=plane, region=Region(5, 5, Size(5, 4)))
    with pytest.raises(UsageError, match="no confidence"):
        tail.run(refuse, 0, 0, confidence=plane, confidence_kind="entropy")
    with pytest.raises(UsageError, match="has no confidence"):
        Tail(a_card(head="labels"), geometry, grid, dtype="int64").run(
            refuse, 0, 0, confidence=plane
        )
    with pytest.raises(UsageError, match="float64"):
        Tail(a_card(), geometry, grid, dtype="float64")
    with pytest.raises(UsageError, match="too many"):
        Tail(a_card(8193), geometry, grid)
    assert refuse.kernels == []
