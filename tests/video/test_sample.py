"""One reader of pictures: what a folder stands for, and every option that takes images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_clips import gradient_images, write_clip

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cli.verbs.compare import named_images
from segedge.convert.export import _sample
from segedge.convert.options import ExportOptions
from segedge.engine.builder.half import network_inputs
from segedge.errors import SourceError
from segedge.precision.int8.images import find_images
from segedge.video.formats import IMAGE_SUFFIXES
from segedge.video.sources.sample import sample_images

CARD = ModelCard(
    classes=("a", "b"), palette_rgb=((0, 0, 0), (9, 9, 9)), input_height=48, input_width=64
)

TAKERS: dict[str, Callable[[str], Iterable[Any]]] = {
    "compare --images, optimize --images": lambda where: named_images(where, 5, CARD.input_size),
    "quantize --calibrate": lambda where: find_images([where], limit=5).images(),
    "export --verify": lambda where: (
        _sample(ExportOptions(size=Size(48, 64), verify=where, verify_images=5)) or ()
    ),
    "build --images": lambda where: network_inputs(where, CARD, limit=5),
}
"""Each option that takes images, up to the images that it gets."""


def image_files(where: str | Path, limit: int) -> list[Path]:
    return list(sample_images([where], limit=limit, option="--images").files)


def pictures(place: Path, kind: str) -> Path:
    """Seven pictures as one video, or as a folder of images."""
    images = gradient_images(7)
    if kind == "clip.ts":
        return write_clip(place / kind, images)
    folder = place / "pictures"
    folder.mkdir()
    for number, image in enumerate(images):
        grey_or_bgr = image[..., 0] if kind == ".pgm" else image
        assert cv2.imwrite(str(folder / f"{number}{kind}"), grey_or_bgr)
    return folder


@pytest.mark.parametrize("kind", ["clip.ts", ".pgm", ".jp2"])
@pytest.mark.parametrize("option", TAKERS)
def test_every_option_takes_what_run_takes(tmp_path: Path, option: str, kind: str) -> None:
    assert len(list(TAKERS[option](str(pictures(tmp_path, kind))))) == 5


@pytest.mark.parametrize("kind", ["clip.ts", "clip.mp4", "clip.mkv", "clip.h264", "clip.mjpeg"])
def test_a_video_is_sampled_evenly(tmp_path: Path, kind: str) -> None:
    """From MPEG-TS, which has no index, and from raw streams, which have no times, too."""
    path = write_clip(
        tmp_path / kind, gradient_images(31), codec="mjpeg" if "mjpeg" in kind else "libx264"
    )
    sample = sample_images([path], limit=4, option="--images")
    assert [name for name, _ in sample] == [f"{kind} frame {n}" for n in range(4)]
    first, *others = [float(image.mean()) for image in sample.pixels()]
    assert [round((mean - first) / 3) for mean in others] == [10, 20, 30]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_folder_and_a_pattern_are_of_the_images_that_run_reads(
    tmp_path: Path, suffix: str
) -> None:
    for number in (10, 9):
        (tmp_path / f"{number}{suffix}").write_bytes(b"x")
    (tmp_path / f"._{suffix}").write_bytes(b"left by another system")
    for where in (tmp_path, f"{tmp_path}/*{suffix}"):
        assert [file.stem for file in image_files(where, 9)] == ["9", "10"]


def test_an_error_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(SourceError, match=r"cannot read image .*a\.png") as caught:
        list(sample_images([tmp_path], limit=2, option="--verify"))
    assert "--verify 'GLOB'" in (caught.value.fix or "")
    for where in ([tmp_path / "none"], []):
        with pytest.raises(SourceError) as caught:
            sample_images(where, limit=2, option="--verify")
        assert "--verify" in (caught.value.fix or "")


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "labels"), ("train", "trainannot"), ("leftImg8bit/val/ulm", "gtFine/val/ulm"),
        ("JPEGImages", "SegmentationClass"), ("images/training", "annotations/training"),
        ("701_StillsRaw_full", "LabeledApproved_full"), (".", "Masks"),
    ],
)  # fmt: skip
def test_labels_beside_images_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, images: str, labels: str
) -> None:
    put(*(tmp_path / images / f"{n}.png" for n in range(3)))
    put(*(tmp_path / labels / f"{n}.png" for n in range(2)))
    caplog.set_level(logging.INFO, "segedge")
    found = image_files(tmp_path, 99)
    assert [file.relative_to(tmp_path / images).name for file in found] == [
        "0.png", "1.png", "2.png"
    ]  # fmt: skip
    assert f"2 files of {labels.split('/')[0]}/" in caplog.text
    caplog.clear()
    assert len(image_files(tmp_path / labels.split("/")[0], 99)) == 2
    assert image_files(f"{tmp_path}/{labels}/*.png", 99)
    assert not caplog.text


def test_nothing_but_labels(tmp_path: Path) -> None:
    put(tmp_path / "labels/0.png")
    with pytest.raises(SourceError, match="no images at") as caught:
        image_files(tmp_path, 9)
    assert caught.value.facts["left out"] == "1 files of labels/: labels"
