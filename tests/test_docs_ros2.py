"""The node of docs/ros2.md, run with stand-ins for ROS: what it does with our side is real.

The stand-ins have the fields of the message definitions and nothing else, so that a field that is
misspelt fails.
"""

from __future__ import annotations

import array
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.segment.segmenter import Segmenter

PAGE = Path(__file__).parent.parent / "docs/ros2.md"
CARD = ModelCard(("road", "car"), ((128, 64, 128), (0, 0, 142)), 48, 64, stride=8)


@dataclass
class Header:
    stamp: Any = field(default_factory=lambda: SimpleNamespace(sec=3, nanosec=500_000_000))
    frame_id: str = "camera"


@dataclass
class Image:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: Any = b""


@dataclass
class PointField:
    FLOAT32: ClassVar[int] = 7
    name: str = ""
    offset: int = 0
    datatype: int = 0
    count: int = 0


@dataclass
class PointCloud2:
    header: Header
    height: int
    width: int
    fields: list[PointField]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: array.array[int]
    is_dense: bool


class Publisher:
    def __init__(self) -> None:
        self.published: list[Any] = []

    def publish(self, message: Any) -> None:
        self.published.append(message)

    def get_subscription_count(self) -> int:
        return 1


class Node:
    parameters: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str) -> None:
        self.publishers: dict[str, Publisher] = {}

    def declare_parameter(self, name: str, default: str) -> SimpleNamespace:
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind: type, topic: str, qos: Any) -> Publisher:
        return self.publishers.setdefault(topic, Publisher())

    def create_subscription(self, kind: type, topic: str, callback: Any, qos: Any) -> None:
        assert topic == "image"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the page's block defines, its segmenter around the fake network."""
    names = SimpleNamespace(KEEP_LAST=1, BEST_EFFORT=2)
    for name, members in {
        "rclpy": {},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {
            "HistoryPolicy": names, "ReliabilityPolicy": names, "QoSProfile": SimpleNamespace,
        },
        "sensor_msgs": {},
        "std_msgs": {},
        "std_msgs.msg": {"Header": Header},
        "sensor_msgs.msg": {"Image": Image, "PointCloud2": PointCloud2, "PointField": PointField},
    }.items():  # fmt: skip
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    ground = tmp_path / "ground.json"
    ground.write_text("[[0.1, 0, -3.2], [0, -0.1, 4.8], [0, 0, 1]]")
    monkeypatch.setattr(Node, "parameters", {"ground": str(ground)})
    monkeypatch.setattr("segedge.load", lambda path: segmenter_of(CARD), raising=False)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = {"__name__": "segedge_node"}
    exec(compile(block, str(PAGE), "exec"), found)
    return found


def segmenter_of(card: ModelCard) -> Segmenter:
    return Segmenter(card, FakeBackend(card), threads=1)


def scene() -> np.ndarray:
    """Dark road below, something bright at the upper left."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255
    return image


def message(image: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = image.reshape(len(image), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    return Image(Header(), 48, 64, encoding, 0, rows.shape[1], array.array("B", rows.tobytes()))


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono8"])
def test_images_of_each_encoding(page: dict[str, Any], encoding: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    sent = {"bgr8": image, "rgb8": image[..., ::-1], "mono8": image[..., :1]}[encoding]
    found = page["image_of"](message(np.ascontiguousarray(sent), encoding, padding=5))
    expected = image if encoding != "mono8" else image[..., :1].repeat(3, axis=2)
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)


def test_labels_overlay_and_obstacles(page: dict[str, Any]) -> None:
    node = page["SegedgeNode"]()
    sent = message(scene(), "bgr8")
    node.on_image(sent)
    (labels,) = node.publishers["labels"].published
    (overlay,) = node.publishers["overlay"].published
    (cloud,) = node.publishers["obstacles"].published
    assert (labels.encoding, labels.step, labels.header) == ("mono8", 64, sent.header)
    assert (overlay.encoding, overlay.step) == ("bgr8", 64 * 3)
    with segmenter_of(CARD) as segmenter:
        result = segmenter(scene())
        assert bytes(labels.data) == result.labels.tobytes()
        assert bytes(overlay.data) == result.overlay().tobytes()
        rows = result.road.obstacle_y
    points = np.frombuffer(cloud.data, np.float32).reshape(-1, 3)
    columns = np.flatnonzero(rows >= 0)
    assert len(points) == cloud.width == columns.size > 0
    np.testing.assert_allclose(points[:, 0], 4.8 - 0.1 * rows[columns], atol=1e-5)
    np.testing.assert_allclose(points[:, 1], 3.2 - 0.1 * columns, atol=1e-5)
    assert (cloud.header.frame_id, sent.header.frame_id) == ("base_link", "camera")
    assert [(f.name, f.offset, f.datatype) for f in cloud.fields] == [
        ("x", 0, 7), ("y", 4, 7), ("z", 8, 7),
    ]  # fmt: skip
