"""Scenes of three colours, and a network that was fitted to them: trained by least squares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from segedge.card.card import ModelCard
from segedge.card.modelfile import with_metadata
from segedge.card.statistics import STATISTICS, Channels, Statistics

HEIGHT, WIDTH = 48, 64
COLORS_BGR = np.array([[40, 60, 70], [60, 140, 60], [200, 150, 120]], np.float64)
CARD = ModelCard(
    ("road", "tree", "sky"), ((0, 0, 0), (0, 128, 0), (0, 0, 255)), HEIGHT, WIDTH,
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
)  # fmt: skip
Look = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def fog(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return image * 0.3 + 150.0


def scene(seed: int, look: Look | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A picture of blocks, H x W x 3 uint8 BGR, and its labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (6, 8)).repeat(8, axis=0).repeat(8, axis=1)
    image = COLORS_BGR[labels] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    image = image if look is None else look(image)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_scenes(folder: Path, count: int, look: Look | None = None, *, first: int = 100) -> Path:
    """A folder of PNG files."""
    folder.mkdir(parents=True)
    for seed in range(first, first + count):
        cv2.imwrite(str(folder / f"{seed}.png"), scene(seed, look)[0])
    return folder


def tensor_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    rgb = image[..., ::-1].astype(np.float32) / 255.0
    return np.ascontiguousarray(((rgb - 0.5) / 0.25).transpose(2, 0, 1)[None])


class Trained:
    """Two layers of 1x1 convolutions with Relu and a classifier, in NumPy, and as ONNX."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.weights = [rng.normal(0, 1, (8, 3)), rng.normal(0, 0.5, (8, 8))]
        self.biases = [rng.normal(0, 0.5, 8), rng.normal(0, 0.5, 8)]
        self.expected: list[Channels] = []
        pictures = [scene(seed) for seed in range(24)]
        x = np.concatenate([tensor_of(image).reshape(3, -1) for image, _ in pictures], axis=1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            y = weight @ x + bias[:, None]
            self.expected.append(Channels(y.mean(axis=1), y.std(axis=1)))
            x = np.maximum(y, 0.0)
        wanted = 12.0 * np.eye(3)[np.concatenate([labels.ravel() for _, labels in pictures])]
        solved = np.linalg.lstsq(np.vstack([x, np.ones_like(x[:1])]).T, wanted, rcond=None)[0]
        self.weights.append(solved[:-1].T)
        self.biases.append(solved[-1])

    def model(self) -> Any:
        """``onnx.ModelProto``: image to logits, by the values ``a`` and ``b``."""
        nodes, tensors, source = [], [], "image"
        for number, value in enumerate(("a", "b", "logits")):
            weight = self.weights[number].astype(np.float32)[:, :, None, None]
            names = [f"w{number}", f"c{number}"]
            for name, array in zip(names, (weight, self.biases[number]), strict=True):
                tensors.append(numpy_helper.from_array(np.float32(array), name))
            nodes.append(helper.make_node("Conv", [source, *names], [value]))
            if value != "logits":
                nodes.append(helper.make_node("Relu", [value], [f"{value}_relu"]))
            source = f"{value}_relu"
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "g", [info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
            [info("logits", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])], tensors,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def write(self, path: Path, *, has_statistics: bool = True, card: ModelCard = CARD) -> Path:
        """The file, with its card."""
        data = with_metadata(self.model().SerializeToString(), card.to_metadata())
        if has_statistics:
            kept = Statistics.of("BatchNorm", dict(zip("ab", self.expected, strict=True)))
            data = with_metadata(data, STATISTICS.metadata(kept))
        path.write_bytes(data)
        return path


def accuracy(path: Path, look: Look | None = None) -> float:
    """Share of the pixels of other scenes with the right label."""
    from segedge.machine.onnx_session import Session

    session, right = Session(onnx.load(path)), []
    for seed in range(300, 306):
        image, labels = scene(seed, look)
        right.append((session(tensor_of(image))[0].argmax(axis=0) == labels).mean())
    return float(np.mean(right))
