"""The street demo: its scenes, its network, its trained checkpoint and its clip."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

STREET = Path(__file__).parents[1] / "export" / "street"
MEASURED_MIOU = 0.8817  # of export/street/README.md
_OWN = (
    "actors", "canvas", "classes", "clip", "ground", "layout", "network", "scenes", "surfaces",
    "train",
)  # fmt: skip


@contextlib.contextmanager
def _loaded(name: str) -> Iterator[ModuleType]:
    """Import one of the demo's scripts, which find each other by folder, and forget it again."""
    before = {own: sys.modules.pop(own) for own in _OWN if own in sys.modules}
    sys.path.insert(0, str(STREET))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(STREET))
        for own in _OWN:
            sys.modules.pop(own, None)
        sys.modules.update(before)


@pytest.fixture(scope="module")
def scenes() -> Iterator[ModuleType]:
    """The generator of scenes."""
    with _loaded("scenes") as module:
        yield module


@pytest.fixture(scope="module")
def network() -> Iterator[ModuleType]:
    """The network; skips without torch."""
    pytest.importorskip("torch")
    with _loaded("network") as module:
        yield module


@pytest.fixture(scope="module")
def train() -> Iterator[ModuleType]:
    """The training script; skips without torch."""
    pytest.importorskip("torch")
    with _loaded("train") as module:
        yield module


def test_same_seed_and_time_give_same_bytes(scenes: ModuleType) -> None:
    first = scenes.Scene(5).render(1.5, 128, 256)
    other = scenes.Scene(5)
    other.render(0.3, 128, 256)  # what was rendered before must not matter
    again = other.render(1.5, 128, 256)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_seed_and_time_change_the_picture(scenes: ModuleType) -> None:
    scene = scenes.Scene(5)
    image, labels = scene.render(1.5, 128, 256)
    later, later_labels = scene.render(2.5, 128, 256)
    other, _ = scenes.Scene(6).render(1.5, 128, 256)
    assert not np.array_equal(image, later)
    assert not np.array_equal(labels, later_labels)
    assert not np.array_equal(image, other)


@pytest.mark.parametrize("size", [(96, 192), (108, 192), (161, 321)])
def test_shapes_dtypes_and_label_range(scenes: ModuleType, size: tuple[int, int]) -> None:
    image, labels = scenes.Scene(3).render(4.0, *size)
    assert image.shape == (*size, 3)
    assert labels.shape == size
    assert image.dtype == labels.dtype == np.uint8
    assert labels.max() < len(scenes.CLASSES) == len(scenes.PALETTE_RGB)


def test_successive_frames_are_a_video(scenes: ModuleType) -> None:
    """Within 1/25 s few labels change; within 2 s many do."""
    scene = scenes.Scene(11)
    _, labels = scene.render(4.0, 192, 384)
    _, soon = scene.render(4.04, 192, 384)
    _, late = scene.render(6.0, 192, 384)
    assert (labels != soon).mean() < 0.1
    assert (labels != late).mean() > 2 * (labels != soon).mean()


def test_all_classes_occur(scenes: ModuleType) -> None:
    seen: set[int] = set()
    for seed in range(6):
        scene = scenes.Scene(seed)
        for moment in (1.0, 6.0):
            seen |= set(np.unique(scene.render(moment, 192, 384)[1]).tolist())
    assert seen == set(range(len(scenes.CLASSES)))


def test_text_file_names_the_same_classes(scenes: ModuleType) -> None:
    """``segedge export --classes classes.txt`` reads the file, the scenes the tuples."""
    lines = [line.rsplit(maxsplit=3) for line in (STREET / "classes.txt").read_text().splitlines()]
    assert tuple(name for name, *_ in lines) == scenes.CLASSES
    assert [tuple(map(int, rgb)) for _, *rgb in lines] == [tuple(c) for c in scenes.PALETTE_RGB]


def test_network_shape_and_size(network: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    net = network.street_net(7).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 128, 192)).shape == (2, 7, 128, 192)
    parameters = sum(p.numel() for p in network.street_net().parameters())
    assert 0.7e6 <= parameters <= 1.5e6


def test_sampled_loss_is_the_loss_of_the_full_size_logits(train: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    scores = torch.randn(2, 5, 6, 8, generator=torch.Generator().manual_seed(0))
    target = torch.arange(2 * 48 * 64).reshape(2, 48, 64) % 5
    weight = torch.ones(5)
    full = torch.nn.functional.interpolate(scores, size=(48, 64), mode="bilinear")
    for y, x in ((0, 0), (1, 0), (0, 1), (1, 1)):
        expected = torch.nn.functional.cross_entropy(full[..., y::2, x::2], target[:, y::2, x::2])
        torch.testing.assert_close(train.sampled_loss(scores, target, (y, x), weight), expected)


def test_checkpoint_loads_strictly_with_weights_only(
    network: ModuleType, scenes: ModuleType
) -> None:
    torch = pytest.importorskip("torch")
    path = STREET / "street.pth"
    assert path.stat().st_size <= 3_000_000
    checkpoint = torch.load(path, weights_only=True)
    network.street_net().load_state_dict(checkpoint["state_dict"], strict=True)
    assert checkpoint["classes"] == list(scenes.CLASSES)
    assert checkpoint["miou"] == pytest.approx(MEASURED_MIOU, abs=1e-3)


def test_checkpoint_reaches_its_miou_on_unseen_scenes(train: ModuleType) -> None:
    """24 frames, of seeds neither trained on nor in the README's figure; rare classes pool."""
    torch = pytest.importorskip("torch")
    net = train.street_net()
    net.load_state_dict(torch.load(STREET / "street.pth", weights_only=True)["state_dict"])
    pairs = []
    for seed in range(12):
        scene = train.Scene(700_000 + seed)
        pairs += [scene.render(moment, *train.NATIVE_SIZE) for moment in (2.0, 7.5)]
    frames = train.Frames(np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs]))
    iou = train.evaluate(net, frames, torch.device("cpu"))
    assert iou.mean() >= MEASURED_MIOU - 0.02, dict(zip(train.CLASSES, iou, strict=True))


def test_clip_decodes_and_is_small() -> None:
    av = pytest.importorskip("av")
    path = STREET / "street.mp4"
    assert path.stat().st_size < 1_000_000
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = [frame.pts * frame.time_base for frame in container.decode(stream)]
    assert len(frames) == 250
    assert frames == sorted(set(frames))


def test_clip_script_writes_a_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with _loaded("clip") as clip:
        written = clip.write_clip(tmp_path / "short.mp4", 0.2, 25, (96, 160), 30)
        assert 0 < written == (tmp_path / "short.mp4").stat().st_size
