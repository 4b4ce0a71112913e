"""A network whose ranges are measured: any choice of int8 layers and method is cheap from here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.attachments import PROOF_KEY
from segedge.card.card import ModelCard
from segedge.card.modelfile import require_card, with_metadata
from segedge.card.proof import PROOF
from segedge.card.records import Quantization
from segedge.convert.proof import levels_of, prove
from segedge.errors import ModelError, UsageError, unknown_name_error
from segedge.graph.kit import FLOAT16, Model, load_model, to_bytes, values_of
from segedge.graph.typed import TypedGraph, check, prepare
from segedge.machine.files import write_atomically
from segedge.precision.int8.calibrate import Channels, measure, measure_channels, thresholds
from segedge.precision.int8.equalize import equalized, find_pairs
from segedge.precision.int8.error import Reference, spread
from segedge.precision.int8.images import CalibrationImages, find_images
from segedge.precision.int8.place import Layer, Placement, find_layers, place
from segedge.precision.int8.ranges import LEVELS, METHODS, MagnitudeHistogram, Method
from segedge.precision.int8.rewrite import SEVEN_BITS, rewrite

Activations = Literal["int8", "uint8"]
ACTIVATIONS: tuple[Activations, ...] = ("int8", "uint8")
Progress = Callable[[str, int, int], None]
"""Called with what is done, how many steps are done, and how many there are."""
_OPSET = 13
"""The first with a scale a channel."""
_COMPARED = 8
"""Calibration images that methods are compared on."""
_CHANNELS_ON = 16
"""Calibration images that single channels are measured on."""
_INTEGER_OPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv",
                "QLinearMatMul", "ConvInteger", "MatMulInteger")  # fmt: skip


@dataclass(frozen=True)
class QuantizeOptions:
    """How a network is quantized."""

    method: Method | Literal["auto"] = "auto"
    """How ranges are chosen; ``auto`` tries all and keeps the one that agrees best with float."""
    percentile: float = 99.99
    """Share of the values that are not zero inside the range, for the method of that name."""
    images: int = 64
    """Calibration images at most, evenly sampled."""
    keep: tuple[str, ...] = ()
    """Patterns (as of the shell) of layer names that stay float."""
    quantize_classifier: bool = False
    """Whether the last layer is quantized, too."""
    activations: Activations = "int8"
    """``int8`` with zero points of 0 for every runtime; ``uint8`` is faster on CPUs alone."""
    correct: bool = True
    """Whether equalised channels and corrected biases are tried, and kept where they help."""
    weight_bits: Literal[7, 8] = 8
    """7 avoids the saturation of CPUs that multiply int8 without VNNI, for half the resolution."""

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise unknown_name_error("calibration method", str(self.method), ["auto", *METHODS])
        if not 50 <= self.percentile <= 100:
            raise UsageError(f"--percentile is 50 to 100, found {self.percentile:g}")
        if self.images < 1:
            raise UsageError(f"--images must be at least 1, found {self.images}")
        if self.activations not in ACTIVATIONS:
            raise unknown_name_error("kind of activations", self.activations, ACTIVATIONS)
        if self.weight_bits not in (7, 8):
            raise UsageError(f"weights have 7 or 8 bits, found {self.weight_bits}")


@dataclass(frozen=True)
class LayerChoice:
    """What became of a layer."""

    name: str
    """Its node's name."""
    op: str
    """Its operator."""
    macs: int
    """Multiplications of one image."""
    int8: bool
    """Whether it computes in int8."""
    reason: str = ""
    """Why it stays float, where it does."""


def mac_share(layers: Sequence[LayerChoice]) -> float:
    """Share of the multiplications that int8 layers do, 0..1."""
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.int8) / total if total else 0.0


@dataclass(frozen=True)
class Quantizer:
    """A network whose ranges are measured: any choice of layers and method is cheap from here."""

    source: Path
    """The float file."""
    card: ModelCard
    """Its card."""
    graph: TypedGraph
    """The prepared network."""
    layers: tuple[Layer, ...]
    """Its convolutions."""
    histograms: dict[str, MagnitudeHistogram] = field(repr=False)
    """Magnitudes of every value that may be quantized."""
    images: CalibrationImages
    """What they were measured on."""
    options: QuantizeOptions
    """How it is quantized."""
    ranges: dict[tuple[Method, tuple[str, ...]], float] = field(default_factory=dict, repr=False)
    """Ranges that have been chosen by the histograms, each of a group of values."""
    equalized: int = 0
    """Pairs of layers whose channels were rescaled; `equalized`."""
    means: dict[str, NDArray[np.float32]] | None = field(default=None, repr=False)
    """Means of the channels that convolutions read, where biases are corrected by them."""

    @classmethod
    def calibrate(
        cls,
        model: Path,
        calibrate: Sequence[str | Path],
        *,
        options: QuantizeOptions,
        progress: Progress | None = None,
    ) -> Quantizer:
        """Read a network and measure its ranges on images."""
        card = require_card(model)
        graph = _prepared(model, card)
        layers = find_layers(
            graph, card.input_shape(), keep=options.keep, classifier=options.quantize_classifier
        )
        _check_layers(layers, model)
        images = find_images(calibrate, limit=options.images)
        bare = cls(model, card, graph, layers, {}, images, options)
        return bare._measured("calibrating", progress)

    def _measured(self, what: str, progress: Progress | None) -> Quantizer:
        """The same with histograms of all values that may be quantized."""
        names, images = place(self.graph, self.layers).values, self.images
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(what, done, 2 * images.count)

        found = measure(self.graph, names, lambda: images.tensors(self.card), tick=tick)
        return replace(self, histograms=found, ranges={})

    def with_equal_channels(self, progress: Progress | None = None) -> Quantizer | None:
        """The same network with rescaled channels and its own ranges; None: there is no pair."""
        pairs = find_pairs(self.graph, self.layers)
        if not pairs:
            return None
        channels = self._channels([pair.value for pair in pairs])
        absmax = {name: found.absmax for name, found in channels.items()}
        graph = equalized(self.graph, pairs, absmax)
        other = replace(self, graph=graph, equalized=len(pairs))
        return other._measured("calibrating equalised", progress)

    def with_corrected_biases(self) -> Quantizer:
        """The same, with biases that take back what rounded weights add to a channel's mean."""
        read = {layer.source for layer in self.candidates() if layer.op == "Conv"}
        channels = self._channels(sorted(read))
        return replace(self, means={name: found.mean for name, found in channels.items()})

    @property
    def corrections(self) -> tuple[str, ...]:
        """What was done to lose less, in words."""
        found = (f"{self.equalized} layer pairs equalised",) if self.equalized else ()
        return (*found, "biases corrected") if self.means is not None else found

    def _channels(self, names: Sequence[str]) -> dict[str, Channels]:
        tensors = self.images.tensors(self.card)
        return measure_channels(self.graph, names, spread(tensors, _CHANNELS_ON))

    def candidates(self) -> tuple[Layer, ...]:
        """The layers that may be int8."""
        return tuple(layer for layer in self.layers if not layer.reason)

    def network(self, method: Method, *, kept: Collection[str] = ()) -> Model:
        """The quantized network, without the new card."""
        placement = place(self.graph, self.layers, kept=kept)
        return rewrite(
            self.graph, self.layers, placement, self._thresholds(placement, method),
            weight_levels=LEVELS if self.options.weight_bits == 8 else SEVEN_BITS,
            means=self.means, unsigned=self.options.activations == "uint8",
        )  # fmt: skip

    def _thresholds(self, placement: Placement, method: Method) -> dict[str, float]:
        return thresholds(
            placement.groups, self.histograms, method, percentile=self.options.percentile,
            known=self.ranges,
        )  # fmt: skip

    def reference(self, count: int = _COMPARED) -> Reference:
        """The float network's answers on some calibration images, to compare with."""
        return Reference.of(self.graph.model, self.card, self.images.tensors(self.card), count)

    def methods(self) -> tuple[Method, ...]:
        """The methods to try."""
        return METHODS if self.options.method == "auto" else (self.options.method,)

    def choices(self, kept: dict[str, str]) -> tuple[LayerChoice, ...]:
        """What becomes of each layer, where these stay float for these reasons."""
        found = []
        for layer in self.layers:
            reason = layer.reason or kept.get(layer.name, "")
            found.append(LayerChoice(layer.name, layer.op, layer.macs, not reason, reason))
        return tuple(found)

    def record(self, method: Method, choices: Sequence[LayerChoice], **judged: Any) -> Quantization:
        """What the card shall say. ``judged``: the fields on the measured drop."""
        return Quantization(
            method=method,
            weight_bits=self.options.weight_bits,
            activations=self.options.activations,
            images=self.images.count,
            images_sha256=self.images.sha256,
            layers=sum(choice.int8 for choice in choices),
            kept=tuple(choice.name for choice in choices if not choice.int8),
            mac_share=mac_share(choices),
            corrections=self.corrections,
            **judged,
        )

    def write(
        self, network: Model, out: Path, record: Quantization, *, is_proved: bool = True
    ) -> int:
        """Write a quantized network with its card, whole or not at all; returns its bytes.

        Its proof is of what its own nodes say, computed without rounding in between.
        """
        card = self.card.replace(quantization=record)
        check(network, types=True)
        source = PROOF.read(network.metadata_props)
        network.metadata_props.pop(PROOF_KEY, None)
        network.metadata_props.update(card.to_metadata())
        data = to_bytes(network)
        if is_proved:
            proof = prove(data, card, precision="int8", levels=levels_of(source))
            data = with_metadata(data, PROOF.metadata(proof))
        write_atomically(out, data, durable=True)
        return len(data)


def _prepared(path: Path, card: ModelCard) -> TypedGraph:
    model = load_model(path)
    integer = [node for node in model.graph if node.op_type in _INTEGER_OPS]
    if integer or card.quantization is not None:
        raise ModelError(
            f"{path.name} is quantized already",
            facts={"found": f"{len(integer)} integer nodes, first {integer[0].op_type}"}
            if integer
            else {"found": "its card says so"},
            fix="start from the float32 file",
        )
    graph = prepare(model)
    half = sum(value.dtype == FLOAT16 for value in values_of(graph.model))
    if half:
        raise ModelError(
            f"{path.name} is in fp16",
            facts={"float16 values": str(half)},
            fix="start from the float32 file",
        )
    if graph.opset < _OPSET:
        raise ModelError(
            f"{path.name} is too old for int8 weights with a scale a channel",
            facts={"found": f"opset {graph.opset}", "expected": f"{_OPSET} or newer"},
            fix="export it again: --opset 17",
        )
    return graph


def _check_layers(layers: Sequence[Layer], path: Path) -> None:
    if not any(not layer.reason for layer in layers):
        raise ModelError(
            f"{path.name} has no convolution to quantize",
            facts={"convolutions": str(len(layers))}
            | {f"kept {layer.name}": layer.reason for layer in layers[:3]},
            fix="leave --keep out, or quantize the classifier: --quantize-classifier"
            if layers
            else None,
        )
