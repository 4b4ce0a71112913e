"""Pictures with opacity, panoptic maps and contact sheets as files, read back."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from video_clips import FakeResult

from segedge.errors import SinkError, UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import SourceInfo
from segedge.video.encode.options import EncodeOptions
from segedge.video.picture import over_checkerboard
from segedge.video.sinks.contact import ContactSheetSink, draw_sheet
from segedge.video.sinks.images import FolderSink, ImageSink
from segedge.video.sinks.open import SinkOptions, open_sink
from segedge.video.sinks.video import VideoSink

CLIP = SourceInfo("drive.mp4", "video", size=(48, 64), fps=25.0, frame_count=5)
STILL = SourceInfo("a.png", "images", size=(48, 64), frame_count=1)
ALPHA = SinkOptions(alpha=True)
BLANK = np.zeros((4, 6, 3), np.uint8)


def cutout(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Left opaque and orange, a half seen strip, right clear."""
    image = np.zeros((height, width, 4), np.uint8)
    image[:, : width // 2] = (40, 120, 240, 255)
    image[:, width // 2 : width // 2 + 8] = (40, 120, 240, 128)
    return image


def test_a_cutout_is_a_png_with_opacity(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "a.png", info=STILL, options=ALPHA)
    sink.write(Frame(BLANK), FakeResult(image=cutout()))
    read = np.asarray(Image.open(tmp_path / "a.png"))
    assert np.array_equal(read[..., [2, 1, 0, 3]], cutout())


def test_cutouts_of_a_folder_are_pngs(tmp_path: Path) -> None:
    sink = open_sink(f"{tmp_path}/out/", info=CLIP, options=ALPHA)
    sink.write(Frame(BLANK, 3, pts_seconds=0.1), FakeResult(image=cutout()))
    read = cv2.imread(str(tmp_path / "out" / "000003.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, cutout())


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_a_cutout_video_keeps_its_opacity(
    tmp_path: Path, suffix: str, size: tuple[int, int]
) -> None:
    sink = open_sink(tmp_path / f"a{suffix}", info=CLIP, options=ALPHA)
    image = cutout(*size)
    for index in range(5):
        sink.write(Frame(BLANK, index, pts_seconds=index / 25), FakeResult(image=image))
    sink.close()
    frames = decoded_with_opacity(tmp_path / f"a{suffix}")
    assert len(frames) == 5
    for alpha, luma in frames:
        seen = alpha[: size[0], : size[1]].astype(int)
        assert np.abs(seen - image[..., 3]).mean() < 4
        assert np.all(seen[:, :24] > 250)
        assert np.all(seen[:, -16:] < 5)
        assert np.ptp(luma[:, :24].astype(int)) < 12


def decoded_with_opacity(path: Path) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Opacity and luma of each frame; only libvpx's own decoder reads the former."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name in ("vp9", "libvpx-vp9")
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    assert all(frame.format.name == "yuva420p" for frame in frames)
    return [(plane_of(frame, 3), plane_of(frame, 0)) for frame in frames]


def plane_of(frame: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = frame.planes[index]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width].copy()


def test_a_webm_without_opacity_is_vp9(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "a.webm", info=CLIP)
    image = np.full((48, 64, 3), (40, 120, 240), np.uint8)
    for index in range(5):
        sink.write(Frame(BLANK, index, pts_seconds=index / 25), FakeResult(image=image))
    sink.close()
    with av.open(str(tmp_path / "a.webm")) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert cv2.PSNR(frames[-1], image) > 30


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("a.mp4", "holds no opacity: a cutout is a WebM"),
        ("a.jpg", "cannot write cutout as '.jpg'"),
        ("rtsp://127.0.0.1:8554/a", "cutouts cannot be pushed"),
    ],
)
def test_what_holds_no_opacity_is_refused(tmp_path: Path, target: str, words: str) -> None:
    place = target if "://" in target else tmp_path / target
    with pytest.raises(UsageError, match=words):
        open_sink(place, info=STILL, options=ALPHA)
    assert not list(tmp_path.iterdir())


def test_opacity_that_comes_unannounced_is_refused(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path, picture="overlay")
    with pytest.raises(SinkError, match=r"\.jpg holds no opacity"):
        sink.write(Frame(BLANK), FakeResult(image=cutout()))
    with pytest.raises(UsageError, match="h264 keeps no opacity"):
        EncodeOptions(alpha=True)
    with pytest.raises(UsageError, match=r"a\.mp4: \.mp4 holds no opacity"):
        VideoSink(tmp_path / "a.mp4", fps=25, options=EncodeOptions(codec="vp9", alpha=True))
    with pytest.raises(UsageError, match=r"a\.webm: \.webm holds no h265"):
        open_sink(tmp_path / "a.webm", info=CLIP, options=SinkOptions(codec="h265"))
    with pytest.raises(UsageError, match="VP9 is not pushed"):
        open_sink("udp://127.0.0.1:5000", info=CLIP, options=SinkOptions(codec="vp9"))


def test_a_checkerboard_shows_through() -> None:
    shown = over_checkerboard(cutout())
    assert shown.shape == (48, 64, 3)
    assert np.all(shown[:, :32] == (40, 120, 240))
    assert set(np.unique(shown[:, 48:])) == {102, 153}
    assert over_checkerboard(BLANK) is BLANK


LABELS = np.array([[0, 0, 2, 2], [0, 0, 2, 255], [1, 1, 1, 255]], np.uint8)
CLASSES = ("road", "sky", "car")


def result_of(labels: NDArray[np.uint8]) -> FakeResult:
    return FakeResult(labels=labels, classes=CLASSES, palette_rgb=((1, 2, 3),) * 3)


def test_panoptic_folders_are_cocos(tmp_path: Path) -> None:
    sink = open_sink(f"{tmp_path}/out/", info=CLIP, masks="panoptic")
    for index in range(2):
        sink.write(Frame(BLANK, index, pts_seconds=index / 25), result_of(LABELS))
    sink.close()
    document = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["id"] for image in document["images"]] == [0, 1]
    assert document["images"][1] == {
        "id": 1, "file_name": "000001.png", "height": 3, "width": 4
    }  # fmt: skip
    assert document["categories"][2] == {
        "id": 2, "name": "car", "isthing": 0, "color": [1, 2, 3]
    }  # fmt: skip
    for one in document["annotations"]:
        rgb = np.asarray(Image.open(tmp_path / "out" / one["file_name"])).astype(int)
        ids = rgb @ (1, 256, 65536)
        found = {}
        for segment in one["segments_info"]:
            inside = ids == segment["id"]
            ys, xs = np.nonzero(inside)
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert segment["bbox"] == box
            assert segment["area"] == inside.sum()
            assert segment["iscrowd"] == 0
            found[segment["category_id"]] = segment["area"]
            assert np.all(LABELS[inside] == segment["category_id"])
        assert found == {0: 4, 1: 3, 2: 3}
        assert np.all((ids == 0) == (LABELS == 255))


def test_a_panoptic_image_has_its_json_beside_it(tmp_path: Path) -> None:
    labels = np.full((5, 7), 299, np.uint16)
    sink = ImageSink(tmp_path / "a.png", picture="panoptic")
    many = FakeResult(
        labels=labels, classes=tuple(f"c{k}" for k in range(300)), palette_rgb=((0, 0, 0),) * 300
    )
    sink.write(Frame(BLANK), many)
    assert [path.name for path in sink.paths] == ["a.png", "a.json"]
    segments = json.loads((tmp_path / "a.json").read_text())["annotations"][0]["segments_info"]
    assert segments == [
        {"id": 300, "category_id": 299, "area": 35, "bbox": [0, 0, 7, 5], "iscrowd": 0}
    ]
    rgb = np.asarray(Image.open(tmp_path / "a.png"))
    assert rgb[0, 0].tolist() == [300 % 256, 1, 0]
    with pytest.raises(UsageError, match=r"cannot write panoptic as '\.jpg'"):
        ImageSink(tmp_path / "a.jpg", picture="panoptic")


def test_a_contact_sheet_of_few_frames(tmp_path: Path) -> None:
    sink = open_sink(f"contact:{tmp_path}/sheet.png", info=CLIP)
    for index in range(5):
        image = np.full((48, 64, 3), 40 * (index + 1), np.uint8)
        sink.write(Frame(BLANK, index, pts_seconds=index / 25), FakeResult(image=image))
    assert not list(tmp_path.iterdir())
    sink.close()
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    for index in range(5):
        assert np.any(np.all(sheet == 40 * (index + 1), axis=2))
    assert sink.paths == (tmp_path / "sheet.png",)
    assert not sink.notes


def test_a_contact_sheet_of_many_frames_is_thinned_evenly(tmp_path: Path) -> None:
    sink = ContactSheetSink(tmp_path / "sheet.png", tile_width=16, most=4)
    for index in range(40):
        image = np.full((8, 8, 3), 6 * index, np.uint8)
        sink.write(Frame(BLANK, index, pts_seconds=index / 25), FakeResult(image=image))
    sink.close()
    assert sink.notes == ["sheet.png: 3 of 40 frames, every 16th"]
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    for index in (0, 16, 32):
        assert np.any(np.all(sheet == 6 * index, axis=2))


def test_sheets_hold_pictures_of_other_shapes_and_opacity() -> None:
    wide, high = np.full((10, 40, 3), 9, np.uint8), np.full((40, 10, 3), 200, np.uint8)
    sheet = draw_sheet([wide, high, cutout()], columns=2, captions=("a", "b" * 99, ""))
    assert sheet.ndim == 3
    assert np.any(np.all(sheet == 200, axis=2))
    with pytest.raises(UsageError, match="at least one picture"):
        draw_sheet([])
    with pytest.raises(UsageError, match="at least 1 column"):
        draw_sheet([wide], columns=0)


def test_a_contact_sheet_is_a_picture(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one picture, not sheet\.mp4"):
        open_sink(f"contact:{tmp_path}/sheet.mp4", info=CLIP)
    with pytest.raises(UsageError, match="one picture, not nothing"):
        open_sink("contact:", info=CLIP)
