"""The preprocessing kernels against the reference.

They run on the CPU through the shim and, where there is one, on a GPU: see conftest.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from shim.cases import EXAMPLES, Buffer, Placed, a_card, inputs
from shim.gpu import GpuLauncher, at
from shim.launcher import ShimLauncher

from segedge.card.card import RESIZE_RULES, ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.cuda.overlay import yuv_of_rgb
from segedge.cuda.preprocess import Color, Preprocess
from segedge.cuda.runtime.program import Launcher, Plane
from segedge.errors import UsageError
from segedge.reference import frame as reference
from segedge.reference.resize import axis_matrix, is_rounded


@dataclass(frozen=True)
class Config:
    """What a kernel is compiled for."""

    pixels: str
    resize: str = "bilinear"
    dtype: str = "float32"
    layout: str = "nchw"
    wants: str = "rgb"
    color: Color | None = None
    halving: bool = False

    def card(self, seed: int) -> ModelCard:
        return a_card(
            2,
            color=self.wants,
            resize=self.resize,
            input_layout=self.layout,
            pad_value=seed % 256,
            pad_mean=self.layout == "nhwc",
        )

    def __str__(self) -> str:
        parts = [self.pixels, self.resize, self.dtype, self.layout, self.wants]
        if self.color:
            parts += [self.color.matrix, "full" if self.color.full_range else "limited"]
        return "-".join([*parts, *["halving"] * self.halving])


CONFIGS = [
    Config("bgr"),
    Config("bgr", halving=True),
    Config("rgb", "area", "float16", halving=True),
    Config("bgr", "bilinear", "float16", "nhwc", "bgr"),
    Config("rgb", "nearest"),
    Config("bgra", "bilinear", "float16"),
    Config("bgra", "area", "float16", "nhwc"),
    Config("rgba", "antialias", "float32", "nhwc", "bgr"),
    Config("rgba", "nearest", "float16"),
    Config("gray", "bilinear"),
    Config("gray", "antialias", "float16"),
    Config("bgr", "antialias"),
    Config("bgr", "area", "float16"),
    Config("bgr", "pillow-bilinear"),
    Config("rgb", "pillow-bicubic", "float16", "nhwc"),
    Config("bgra", "pillow-bicubic"),
    Config("bgr", "pillow-lanczos"),
    Config("bgr", "pillow-hamming", "float16"),
    Config("gray", "pillow-box"),
    Config("nv12", "pillow-bicubic", color=Color("bt709", False)),
    Config("nv12", "bilinear", color=Color("bt709", False)),
    Config("nv12", "nearest", "float16", color=Color("bt601", True)),
    Config("nv12", "antialias", color=Color("bt709", True)),
    Config("nv12", "area", "float32", "nhwc", "bgr", Color("bt601", False)),
]


def test_every_rule_is_tried() -> None:
    assert {config.resize for config in CONFIGS} == set(RESIZE_RULES)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_equals_the_reference(launcher: ShimLauncher | GpuLauncher, config: Config):
    even = config.pixels == "nv12"

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(inputs(even=even, halving=config.halving))
    def check(placed: Placed) -> None:
        card, size = config.card(placed.seed), placed.geometry.frame
        frame = a_frame(config.pixels, size, placed)
        chroma = a_frame("uv", size, placed) if even else None
        preprocess = Preprocess(
            card, placed.geometry, pixel_format=config.pixels, dtype=config.dtype,
            color=config.color,
        )  # fmt: skip
        tensor = np.full((2, *preprocess.shape[1:]), 7.5, config.dtype)
        preprocess.run(
            launcher, frame.plane, at(tensor), chroma=chroma.plane if chroma else None,
            batch_index=1,
        )  # fmt: skip
        if preprocess._is_halving and placed.aligned:
            assert launcher.kernels[-1].name == "preprocess_halve"
        expected = truth(config, card, placed.geometry, frame.array, chroma)
        tolerance = 2e-5 if config.dtype == "float32" else 2e-3
        if is_rounded(config.resize) and not even:  # float32: next to a half it may go otherwise
            off = np.abs(tensor[1:].astype(float) - expected) > tolerance
            assert off.mean() < 0.05 or tensor[1:].size < 6000
            tolerance += 1.001 / (255 * min(card.std))
        np.testing.assert_allclose(tensor[1:], expected, atol=tolerance, rtol=1e-5)
        assert np.all(tensor[0] == 7.5)

    check()


def a_frame(pixels: str, size: Size, placed: Placed) -> Buffer:
    height, width = size.height, size.width
    shape = {
        "gray": (height, width),
        "nv12": (height, width),
        "uv": ((height + 1) // 2, (width + 1) // 2, 2),
    }.get(pixels, (height, width, len(pixels)))
    buffer = Buffer(shape, np.uint8, aligned=placed.aligned)
    return buffer.fill(np.random.default_rng(placed.seed).integers(0, 256, shape))


def truth(
    config: Config, card: ModelCard, geometry: Geometry, frame: np.ndarray, chroma: Buffer | None
) -> np.ndarray:
    if chroma is not None:
        return nv12_truth(card, geometry, frame, chroma.array, config.color or Color())
    if config.pixels == "gray":
        bgr = np.stack([frame] * 3, -1)
    else:
        bgr = frame[..., [config.pixels.index(channel) for channel in "bgr"]]
    return reference.preprocess(bgr, card, geometry)


def nv12_truth(
    card: ModelCard, geometry: Geometry, luma: np.ndarray, chroma: np.ndarray, color: Color
) -> np.ndarray:
    """Resampled as Y, U and V, then converted, clipped and normalised, in float64."""
    top, left, bottom, right = geometry.content()
    maps = geometry.frame_from_network()

    def resample(plane: np.ndarray, y: AxisMap, x: AxisMap) -> np.ndarray:
        rows = axis_matrix(card.resize, y, range(top, bottom), plane.shape[0])
        columns = axis_matrix(card.resize, x, range(left, right), plane.shape[1])
        return rows @ plane.astype(float) @ columns.T

    y = resample(luma, maps.y, maps.x)
    if card.resize == "bilinear":  # level with even columns, between two rows
        halved = (
            AxisMap(maps.y.scale / 2, maps.y.offset / 2 - 0.25),
            AxisMap(maps.x.scale / 2, maps.x.offset / 2),
        )
        u, v = (resample(chroma[..., k], *halved) for k in (0, 1))
    else:
        wide = chroma.repeat(2, 0).repeat(2, 1)[: luma.shape[0], : luma.shape[1]]
        u, v = (resample(wide[..., k], maps.y, maps.x) for k in (0, 1))
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (card.mean, card.std))
    border = 255 * mean[::-1] if card.pad_mean and card.color == "bgr" else 255 * mean
    border = border if card.pad_mean else np.full((3, 1, 1), float(card.pad_value))
    size = (3, geometry.network.height, geometry.network.width)
    network = np.broadcast_to(border, size).copy()
    network[:, top:bottom, left:right] = rgb_of_yuv(y, u, v, color)
    if card.color == "bgr":
        network = network[::-1]
    tensor = (network / 255 - mean) / std
    return (tensor.transpose(1, 2, 0) if card.input_layout == "nhwc" else tensor)[None]


def rgb_of_yuv(y: np.ndarray, u: np.ndarray, v: np.ndarray, color: Color) -> np.ndarray:
    """The inverse of the matrices in ITU-R BT.601-7 and BT.709-6, 0..255, clipped."""
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[color.matrix]
    forward = np.array([
        [red, 1 - red - blue, blue],
        [-red / (2 - 2 * blue), -(1 - red - blue) / (2 - 2 * blue), 0.5],
        [0.5, -(1 - red - blue) / (2 - 2 * red), -blue / (2 - 2 * red)],
    ])  # fmt: skip
    scale = (255, 255) if color.full_range else (219, 224)
    offset = 0 if color.full_range else 16
    signals = np.stack([(y - offset) / scale[0], (u - 128) / scale[1], (v - 128) / scale[1]])
    return np.clip(255 * np.tensordot(np.linalg.inv(forward), signals, 1), 0, 255)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colors_survive_nv12_and_back(matrix: str, full_range: bool):
    rgb = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (70, 130, 180), (0, 0, 0), (255, 255, 255)]
    yuv = yuv_of_rgb(rgb, matrix=matrix, full_range=full_range).astype(float)
    back = rgb_of_yuv(*yuv.T, Color(matrix, full_range)).T
    assert np.abs(back - rgb).max() <= 3


def test_nv12_conversion_agrees_with_opencv(launcher: Launcher):
    """OpenCV's is BT.601, limited range; a plain colour leaves the siting of chroma out."""
    import cv2

    size, card = Size(4, 8), a_card(2, mean=(0, 0, 0), std=(1, 1, 1))
    for y, u, v in ((60, 110, 150), (200, 90, 120), (126, 128, 128)):
        luma = np.full((4, 8), y, np.uint8)
        chroma = np.broadcast_to(np.array([u, v], np.uint8), (2, 4, 2)).copy()
        tensor = np.zeros((1, 3, 4, 8), np.float32)
        Preprocess(
            card, Geometry.fit(size, size, "stretch"), pixel_format="nv12", color=Color("bt601")
        ).run(
            launcher, Plane(at(luma), 8), at(tensor),
            chroma=Plane(at(chroma), 8),
        )  # fmt: skip
        rgb = cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2RGB_NV12)
        assert np.abs(255 * tensor[0].transpose(1, 2, 0) - rgb).max() <= 1


def test_what_does_not_go_together_is_refused():
    geometry, plane = Geometry.fit(Size(8, 8), Size(4, 4), "stretch"), Plane(0, 16)
    refuse = ShimLauncher()
    with pytest.raises(UsageError, match="two planes"):
        Preprocess(a_card(), geometry, pixel_format="nv12").run(refuse, plane, 0)
    with pytest.raises(UsageError, match="two planes"):
        Preprocess(a_card(), geometry).run(refuse, plane, 0, chroma=plane)
    with pytest.raises(UsageError, match="did you mean 'nv12'"):
        Preprocess(a_card(), geometry, pixel_format="nv21")
    with pytest.raises(UsageError, match="float64"):
        Preprocess(a_card(), geometry, dtype="float64")
    assert refuse.kernels == []
