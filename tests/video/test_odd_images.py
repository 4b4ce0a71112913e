"""Images that decoders give in part, or almost black: refused by name, or scaled rightly."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segedge.errors import SourceError
from segedge.video.sources.images import ImageFiles, read_image

RAMP = np.linspace(0, 255, 24 * 32).reshape(24, 32)
HIGHEST, S_LOWEST, S_HIGHEST = 281, 340, 341


@pytest.fixture
def photo() -> bytes:
    """A JPEG with something in every block."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    image = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image)[1].tobytes()


def progressive(photo: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def damaged(photo: bytes, kind: str) -> bytes:
    middle = len(photo) // 2
    if kind == "half":
        return photo[:middle] + b"\xff\xd9"
    if kind == "half of a progressive one":
        photo = progressive(photo)
        return photo[: len(photo) // 2] + b"\xff\xd9"
    return photo[:middle] + photo[middle + 400 :]


@pytest.mark.parametrize("kind", ["half", "half of a progressive one", "a gap"])
def test_half_a_jpeg_with_an_end_marker(
    tmp_path: Path, photo: bytes, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(damaged(photo, kind))
    (tmp_path / "good.jpg").write_bytes(photo)
    source = ImageFiles([tmp_path / "bad.jpg", tmp_path / "good.jpg"])
    assert [Path(frame.name).name for frame in source.frames()] == ["good.jpg"]
    (failure,) = source.failures
    assert failure.name.endswith("bad.jpg")
    assert failure.reason.startswith("Corrupt JPEG data: ")
    assert capfd.readouterr().err == ""


def test_whole_jpegs_of_all_kinds_pass(tmp_path: Path, photo: bytes) -> None:
    image = Image.open(io.BytesIO(photo))
    for number, words in enumerate([
        {"progressive": True}, {"optimize": True}, {"subsampling": 0}, {"restart_marker_rows": 1}
    ]):  # fmt: skip
        image.save(tmp_path / f"{number}.jpg", **words)
        assert read_image(tmp_path / f"{number}.jpg").shape == (240, 320, 3)
    for mode in ("L", "CMYK"):
        image.convert(mode).save(tmp_path / f"{mode}.jpg")
        assert read_image(tmp_path / f"{mode}.jpg").shape == (240, 320, 3)
    (tmp_path / "padded.jpg").write_bytes(photo + b"\0" * 100)
    assert read_image(tmp_path / "padded.jpg").shape == (240, 320, 3)


def test_a_byte_too_many_before_a_table_is_no_damage(tmp_path: Path, photo: bytes) -> None:
    place = photo.index(b"\xff\xdb")
    (tmp_path / "webcam.jpg").write_bytes(photo[:place] + b"\0" + photo[place:])
    (tmp_path / "plain.jpg").write_bytes(photo)
    given, plain = (read_image(tmp_path / f"{name}.jpg") for name in ("webcam", "plain"))
    assert np.array_equal(given, plain)


def test_the_damaged_one_of_many_threads_is_told(tmp_path: Path, photo: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(damaged(photo, "half"))
    (tmp_path / "good.jpg").write_bytes(photo)
    refused: dict[str, int] = {"bad": 0, "good": 0}

    def read(name: str) -> None:
        for _ in range(20):
            try:
                read_image(tmp_path / f"{name}.jpg")
            except SourceError:
                refused[name] += 1

    threads = [threading.Thread(target=read, args=(name,)) for name in refused]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == {"bad": 20, "good": 0}


def ramp_of(path: Path) -> NDArray[np.int64]:
    return read_image(path)[:, :, 0].astype(int)


def is_ramp(path: Path) -> bool:
    return bool(np.abs(ramp_of(path) - RAMP).max() <= 1)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_some_bits_of_16(tmp_path: Path, bits: int) -> None:
    deep = np.round(RAMP * (2**bits - 1) / 255).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    with pytest.raises(SourceError, match=r"cannot read image .*a\.png") as caught:
        read_image(tmp_path / "a.png")
    assert f"{bits} bits are used" in caught.value.facts["found"]
    Image.fromarray(deep).save(tmp_path / "b.tif")
    with pytest.raises(SourceError, match="cannot read image"):
        read_image(tmp_path / "b.tif")
    Image.fromarray(deep).save(tmp_path / "c.tif", tiffinfo={HIGHEST: 2**bits - 1})
    assert is_ramp(tmp_path / "c.tif")
    header = f"P5\n# a comment\n32 24\n{2**bits - 1}\n".encode()
    (tmp_path / "d.pgm").write_bytes(header + deep.astype(">u2").tobytes())
    assert is_ramp(tmp_path / "d.pgm")


def test_all_of_16_bits(tmp_path: Path) -> None:
    full = np.round(RAMP * 257).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), full)
        assert is_ramp(tmp_path / name)
        cv2.imwrite(str(tmp_path / name), full * 0)
        assert not ramp_of(tmp_path / name).any()
    colours = np.zeros((2, 2, 3), np.uint16)
    colours[...] = (65535, 257, 512)
    cv2.imwrite(str(tmp_path / "c.png"), colours)
    assert read_image(tmp_path / "c.png")[0, 0].tolist() == [255, 1, 2]


def test_few_levels_of_8_bits(tmp_path: Path) -> None:
    few = np.round(RAMP * 15 / 255).astype(np.uint8)
    (tmp_path / "a.pgm").write_bytes(b"P5 32 24 15\n" + few.tobytes())
    assert np.array_equal(ramp_of(tmp_path / "a.pgm"), few.astype(int) * 17)


def test_floats(tmp_path: Path) -> None:
    share = (RAMP / 255).astype(np.float32)
    Image.fromarray(share).save(tmp_path / "a.tif")
    with pytest.raises(SourceError, match="cannot read image") as caught:
        read_image(tmp_path / "a.tif")
    assert "float32 samples 0..1" in caught.value.facts["found"]
    cv2.imwrite(str(tmp_path / "c.tif"), cv2.merge([share * 255] * 3))
    with pytest.raises(SourceError, match="cannot read image"):
        read_image(tmp_path / "c.tif")
    Image.fromarray(share).save(tmp_path / "b.tif", tiffinfo={S_LOWEST: 0.0, S_HIGHEST: 1.0})
    assert is_ramp(tmp_path / "b.tif")
    Image.fromarray(share * 8 - 4).save(
        tmp_path / "d.tif", tiffinfo={S_LOWEST: -4.0, S_HIGHEST: 4.0}
    )
    assert is_ramp(tmp_path / "d.tif")
    Image.fromarray(share).save(tmp_path / "e.tif", tiffinfo={S_LOWEST: 0.0, S_HIGHEST: 0.5})
    with pytest.raises(SourceError, match="cannot read image"):
        read_image(tmp_path / "e.tif")


@pytest.mark.parametrize("ending", ["tif", "png", "webp"])
def test_further_pictures_of_a_file_are_told(tmp_path: Path, ending: str) -> None:
    first, second = (Image.fromarray(np.full((8, 9, 3), value, np.uint8)) for value in (40, 200))
    for name in ("a", "b"):
        first.save(tmp_path / f"{name}.{ending}", save_all=True, append_images=[second])
    first.save(tmp_path / f"c.{ending}")
    files = ImageFiles(sorted(tmp_path.iterdir()))
    assert [int(frame.image_hwc[0, 0, 0]) for frame in files.frames()] == [40] * 3
    told = f"a.{ending} holds several pictures: only the first is read, and of 1 more such files"
    assert files.notes == (told,)
    alone = ImageFiles([tmp_path / f"c.{ending}"])
    assert (len(list(alone.frames())), alone.notes) == (1, ())
