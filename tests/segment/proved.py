"""Tiny networks that were exported with their proof, and what can be wrong with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

import segedge
from segedge.card.attachments import PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import distinct_palette
from segedge.card.modelfile import read_card, read_metadata, with_metadata
from segedge.card.picture import Picture
from segedge.card.proof import PROOF, Proof
from segedge.convert.proof import prove
from tests import networks
from tests.built import built

SIZE = Size(64, 96)
CLASSES = 5


class Network(nn.Module):
    """Two strided convolutions and a classifier, with something in between and a usual tail."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], corners: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.body = nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.between, self.corners = between, corners
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.between(F.relu(self.body(F.relu(self.stem(image)))))
        logits = self.head(features)
        logits = 8 * (logits - logits.mean((2, 3), keepdim=True))
        return F.interpolate(
            logits, size=image.shape[-2:], mode="bilinear", align_corners=self.corners or None
        )


class Varied(nn.Module):
    """An operator of every kind that segmentation networks have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12)
        self.mix = nn.Conv2d(12, 12, 1)
        self.deep = nn.Conv2d(12, 12, 3, stride=2, padding=1)
        self.gate = nn.Conv2d(12, 12, 1)
        self.head = nn.Conv2d(24, CLASSES, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        shallow = F.leaky_relu(self.stem(image), 0.1)
        shallow = F.relu6(6 * self.mix(self.depthwise(shallow)) + 1)
        shallow = F.avg_pool2d(shallow, 3, 2, 1)
        deep = F.max_pool2d(F.relu(self.deep(shallow)), 3, 2, 1)
        deep = deep * torch.sigmoid(8 * self.gate(deep.mean((2, 3), keepdim=True)))
        deep = F.interpolate(deep, size=shallow.shape[-2:], mode="bilinear")
        logits = self.head(torch.cat([shallow, deep], 1))
        logits = 8 * (logits - logits.mean((2, 3), keepdim=True))
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


def antialiased(features: torch.Tensor) -> torch.Tensor:
    """What OpenVINO 2026.4 computes without the antialias, where export cannot rewrite it."""
    return F.interpolate(features, scale_factor=0.5, mode="bilinear", antialias=True)


def ceiled_pool(features: torch.Tensor) -> torch.Tensor:
    """What OpenVINO 2026.4 divides by other counts, where the last window hangs over."""
    return F.avg_pool2d(features, 3, 2, 1, ceil_mode=True)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Network(nn.Identity(), corners=False),
    "antialiased": lambda: Network(antialiased, corners=False),
    "any_size": lambda: Network(antialiased, corners=False),
    "ceiled": lambda: Network(ceiled_pool, corners=False),
    "varied": Varied,
}


@functools.cache
def exported(name: str) -> Path:
    """A network of these as ``<name>.onnx``, not to be changed."""
    package = Path(segedge.__file__).parent
    rooms = ("convert", "card", "reference")
    sources = [
        path.read_text() for room in rooms for path in sorted((package / room).rglob("*.py"))
    ]
    libraries = [version(library) for library in ("torch", "onnx", "onnxruntime")]
    return built(
        f"{name}.onnx",
        lambda path: segedge.export(
            NETWORKS[name]().eval(),
            path,
            options=segedge.ExportOptions(
                size=SIZE, dynamic=("size",) if name == "any_size" else ()
            ),
        ),
        key=[*sources, *libraries, Path(__file__).read_text(), name],
    )


def card_and_proof(path: Path) -> tuple[ModelCard, Proof]:
    card, proof = read_card(path), PROOF.read(read_metadata(path))
    assert card is not None
    assert proof is not None
    return card, proof


# ------------------------------------------------------------------------ faults of the graph

Model = Any
Edit = Callable[[Model], None]


def _nodes(model: Model, op: str) -> list[Any]:
    found = [node for node in model.graph.node if node.op_type == op]
    assert found, f"no {op} among {sorted({node.op_type for node in model.graph.node})}"
    return found


def _attribute(op: str, value: Any, *, name: str, at: int = 0) -> Edit:
    def edit(model: Model) -> None:
        node = _nodes(model, op)[at]
        kept = [one for one in node.attribute if one.name != name]
        assert value is None or value != {
            a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
        }.get(name)
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(onnx.helper.make_attribute(name, value))

    return edit


def _renamed(op: str, other: str, at: int = 0) -> Edit:
    """Another operator of the same inputs, without attributes where it has none of them."""

    def edit(model: Model) -> None:
        node = _nodes(model, op)[at]
        node.op_type = other
        if other in ("Identity", "Relu", "HardSigmoid", "Tanh"):
            del node.attribute[:]
            del node.input[1:]

    return edit


def _swapped_inputs(op: str) -> Edit:
    def edit(model: Model) -> None:
        node = _nodes(model, op)[0]
        node.input[0], node.input[1] = node.input[1], node.input[0]

    return edit


def _pooled_otherwise(model: Model) -> None:
    node = _nodes(model, "MaxPool")[0]
    node.op_type = "AveragePool"
    kept = [one for one in node.attribute if one.name not in ("dilations", "storage_order")]
    del node.attribute[:]
    node.attribute.extend(kept)


def _weights(edit: Callable[[NDArray[Any]], NDArray[Any]], *, conv: int = 0, slot: int = 1) -> Edit:
    """Other values in the weights (slot 1) or the biases (slot 2) of a convolution."""

    def change(model: Model) -> None:
        name = _nodes(model, "Conv")[conv].input[slot]
        (tensor,) = [one for one in model.graph.initializer if one.name == name]
        values = numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(edit(values)), name))

    return change


def _flipped_bit(bit: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """One bit of the largest weight: 23 to 30 are the exponent's."""

    def edit(values: NDArray[Any]) -> NDArray[Any]:
        place = int(np.argmax(np.abs(values)))
        values.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
        return values

    return edit


def _permuted(axis: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda values: np.roll(values, 1, axis=axis)


def _without_one(values: NDArray[Any]) -> NDArray[Any]:
    values[int(np.argmax(np.abs(values).reshape(len(values), -1).sum(1)))] = 0
    return values


GRAPH_FAULTS: dict[str, Edit] = {
    "a stride shifted by a pixel": _attribute("Conv", [0, 0, 2, 2], name="pads"),
    "padding on one side only": _attribute("Conv", [2, 2, 0, 0], name="pads", at=3),
    "no dilation": lambda model: [
        _attribute("Conv", [1, 1], name="dilations", at=1)(model),
        _attribute("Conv", [1, 1, 1, 1], name="pads", at=1)(model),
    ],  # type: ignore[func-returns-value,dict-item,return-value]
    "another slope": _attribute("LeakyRelu", 0.2, name="alpha"),
    "no activation": _renamed("Relu", "Identity"),
    "a clip is a relu": _renamed("Clip", "Relu"),
    "borders are not counted": _attribute("AveragePool", None, name="count_include_pad"),
    "mean for maximum": _pooled_otherwise,
    "nearest for linear": _attribute("Resize", "nearest", name="mode"),
    "aligned corners": _attribute("Resize", "align_corners", name="coordinate_transformation_mode"),
    "asymmetric pixels": _attribute("Resize", "asymmetric", name="coordinate_transformation_mode"),
    "branches in another order": lambda model: _swap_halves(model),
    "a rough sigmoid": _renamed("Sigmoid", "HardSigmoid"),
    "another gate": _renamed("Sigmoid", "Tanh"),
    "the gate is added": lambda model: _gate_added(model),
    "a bit of a stem weight's exponent": _weights(_flipped_bit(23)),
    "a bit of a depthwise weight's exponent": _weights(_flipped_bit(23), conv=1),
    "a bit of a deep weight's exponent": _weights(_flipped_bit(24), conv=3),
    "a bit of a gate weight's exponent": _weights(_flipped_bit(25), conv=4),
    "a bit of a class's weight": _weights(_flipped_bit(26), conv=5),
    "a bit of a bias's exponent": _weights(_flipped_bit(23), slot=2),
    "input channels rolled": _weights(_permuted(1)),
    "output channels rolled": _weights(_permuted(0)),
    "a kernel mirrored": _weights(lambda values: values[:, :, :, ::-1]),
    "a kernel transposed": _weights(lambda values: values.transpose(0, 1, 3, 2)),
    "a depthwise kernel upside down": _weights(lambda values: values[:, :, ::-1], conv=1),
    "classes rolled": _weights(_permuted(0), conv=5),
    "a filter is missing": _weights(_without_one, conv=3),
    "weights of 6 bits": _weights(lambda v: np.round(v * 64).astype(np.float32) / 64, conv=5),
}


def scaled_weights(factor: float) -> Edit:
    """The classifier's weights times a factor: a training that went on."""
    return _weights(lambda values: values * np.float32(factor), conv=5)


def _swap_halves(model: Model) -> None:
    node = _nodes(model, "Concat")[0]
    node.input[0], node.input[1] = node.input[1], node.input[0]


def _gate_added(model: Model) -> None:
    gate = _nodes(model, "Sigmoid")[0].output[0]
    (node,) = [one for one in model.graph.node if one.op_type == "Mul" and gate in one.input]
    node.op_type = "Add"


CARD_FAULTS: dict[str, Callable[[ModelCard], ModelCard]] = {
    "blue for red": lambda card: card.replace(color="bgr"),
    "a mean 2 % off": lambda card: card.replace(mean=tuple(1.02 * m for m in card.mean)),
    "a deviation 2 % off": lambda card: card.replace(std=tuple(1.02 * s for s in card.std)),
    "one channel's mean off": lambda card: card.replace(mean=(card.mean[0] + 0.01, *card.mean[1:])),
    "no normalisation": lambda card: card.replace(mean=(0, 0, 0), std=(1, 1, 1)),
    "a letterbox": lambda card: card.replace(fit="letterbox"),
    "a crop": lambda card: card.replace(fit="crop"),
    "nearest pixels": lambda card: card.replace(resize="nearest"),
    "antialiased pixels": lambda card: card.replace(resize="antialias"),
    "other corners": lambda card: card.replace(align_corners=not card.align_corners),
}


# --------------------------------------------------------------- faults of a backend or a kernel


def _shifted(logits: NDArray[Any]) -> NDArray[Any]:
    return np.roll(logits, 1, axis=3)


def _one_nan(logits: NDArray[Any]) -> NDArray[Any]:
    logits[0, :, 3, 4] = np.nan
    return logits


def _last_row_missing(logits: NDArray[Any]) -> NDArray[Any]:
    logits[:, :, -1] = 0
    return logits


def _few_bits(logits: NDArray[Any]) -> NDArray[Any]:
    """As bfloat16 has them."""
    bits = logits.view(np.uint32) + np.uint32(0x8000) & np.uint32(0xFFFF0000)
    return np.asarray(bits.view(np.float32))


def _classes_swapped(logits: NDArray[Any]) -> NDArray[Any]:
    return logits[:, ::-1].copy()


def _a_bit_louder(logits: NDArray[Any]) -> NDArray[Any]:
    return logits * np.float32(1.01)


OUTPUT_FAULTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "logits a point to the right": _shifted,
    "one NaN": _one_nan,
    "the last row is not written": _last_row_missing,
    "bf16 that calls itself f32": _few_bits,
    "classes in another order": _classes_swapped,
    "one channel louder": _a_bit_louder,
}


def _last_column_unread(tensor: NDArray[Any]) -> NDArray[Any]:
    tensor[..., -1] = 0
    return tensor


INPUT_FAULTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "channels in another order": lambda tensor: tensor[:, ::-1].copy(),
    "the last column is not read": _last_column_unread,
    "the frame is mirrored": lambda tensor: tensor[..., ::-1].copy(),
}


class Broken:
    """A backend whose outputs, or inputs, are something else than they should be."""

    def __init__(
        self, backend: Any, output: Callable[[Any], Any] | None = None, *, given: Any = None
    ) -> None:
        self._backend, self._output, self._given = backend, output, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        changed = [self._given(x.copy()) for x in inputs] if self._given else inputs
        results = self._results(self._backend.run(changed))
        for result, output in zip(results, outputs or (), strict=bool(outputs)):
            np.copyto(output, result)
        return outputs or results

    def _results(self, results: Any) -> Any:
        return [self._output(x.copy()) if self._output else x for x in results]


class FrameBehind(Broken):
    """It answers each frame but the first by the frame before."""

    _last: Any = None

    def _results(self, results: Any) -> Any:
        kept = [result.copy() for result in results]
        before, self._last = self._last or kept, kept
        return before


class Stale(Broken):
    """What was built of other weights answers."""

    def __init__(self, backend: Any, old: Any) -> None:
        super().__init__(backend)
        self._old = old

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        return self._old.run(inputs, outputs)


def with_proof(data: bytes, card: ModelCard, path: Path) -> Path:
    """Write a file with a card and a proof by what it computes itself."""
    proof = prove(data, card)
    assert len(PROOF.metadata(proof)[PROOF_KEY]) <= 64_000
    path.write_bytes(with_metadata(data, {**card.to_metadata(), **PROOF.metadata(proof)}))
    return path


def of_the_zoo(name: str, dynamic: networks.Dynamic | None, folder: Path) -> Path:
    """A network of the zoo with a card and a proof of its own."""
    height, width = networks.size_of(name)
    classes = tuple(f"class {number}" for number in range(networks.CLASSES))
    card = ModelCard(classes, distinct_palette(len(classes)), height, width, output="logits")
    data = networks.export_tiny(name, dynamic=dynamic).read_bytes()
    return with_proof(data, card, folder / f"{name}-{dynamic}.onnx")


def picture(seed: int = 9) -> NDArray[np.uint8]:
    return Picture(SIZE.height, SIZE.width, seed).pixels()
