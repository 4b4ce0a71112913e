"""ServedNetwork: what a model file is to a Triton server, and whether it can be served at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import TensorSpec
from segedge.backends.registry import ENGINE_SUFFIXES, open_backend
from segedge.card.card import ModelCard
from segedge.card.modelfile import ModelFacts, no_card_error, read_facts
from segedge.engine.facts import EngineFacts, EngineTensor
from segedge.engine.file import read_engine
from segedge.errors import BackendError, CardError, ModelError, UsageError
from segedge.machine.optional import is_importable
from segedge.machine.processors import usable_processors
from segedge.segment.fitting import check_network, network_size

if TYPE_CHECKING:
    from segedge.backends.base import Backend

_READERS = ("onnxruntime", "openvino:f32")
"""Backends that tell inputs and outputs of an ONNX file, the server's own first."""

TritonBackend = str
"""``onnxruntime`` or ``tensorrt``."""


@dataclass(frozen=True)
class ServedNetwork:
    """A model file with all that a server's configuration says of it."""

    path: Path
    card: ModelCard
    backend: TritonBackend
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    largest_batch: int | None = None
    """Largest batch that an engine was built for; None: no limit of its own."""
    needs: str = ""
    """What the server must have, in words."""
    extra_files: tuple[Path, ...] = ()
    """Files that belong beside the model file under their own names: external weights."""

    @property
    def filename(self) -> str:
        """Name that Triton expects the file to have."""
        return "model.plan" if self.backend == "tensorrt" else "model.onnx"

    @property
    def has_batch_axis(self) -> bool:
        """Whether the first axis of every input and output may vary."""
        return all(spec.shape and spec.shape[0] is None for spec in (*self.inputs, *self.outputs))


def read_network(path: str | Path) -> ServedNetwork:
    """An ONNX file with its card, or a TensorRT engine with its JSON file, as a server sees it."""
    file = Path(path)
    if file.suffix.lower() in ENGINE_SUFFIXES:
        return _read_engine(file)
    if file.suffix == ".pt2":
        raise UsageError(
            f"{file.name} cannot be served: Triton has no backend for torch.export programs",
            fix=f"segedge export {file} -o {file.stem}.onnx, then serve that",
        )
    return _read_onnx(file)


def _read_onnx(file: Path) -> ServedNetwork:
    facts = read_facts(file)
    card = ModelCard.from_metadata(facts.metadata)
    if card is None:
        raise no_card_error(file)
    inputs, outputs = _checked_specs(file, card)
    return ServedNetwork(
        file,
        card,
        "onnxruntime",
        inputs,
        outputs,
        needs=f"Triton with its onnxruntime backend (opset {facts.opset})",
        extra_files=_external_data(facts),
    )


def _checked_specs(
    file: Path, card: ModelCard
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    reader = next((name for name in _READERS if is_importable(name.partition(":")[0])), None)
    if reader is None:
        raise BackendError(
            f"no library here can read the inputs and outputs of {file.name}",
            facts={"looked for": ", ".join(_READERS)},
            fix="pip install 'segedge[cpu]'",
        )
    backend = open_backend(file, reader, threads=usable_processors()).backend
    try:
        check_network(card, backend)
        _check_batches(file, card, backend)
        return backend.specs
    finally:
        backend.close()


def _check_batches(file: Path, card: ModelCard, backend: Backend) -> None:
    """That a batch axis is one: graphs that were made for one frame may only claim to have it."""
    inputs, outputs = backend.specs
    if any(not spec.shape or spec.shape[0] is not None for spec in (*inputs, *outputs)):
        return
    size = network_size(card, inputs[0])
    plane = (size.height, size.width)
    shape = (2, 3, *plane) if card.input_layout == "nchw" else (2, *plane, 3)
    noise = np.random.default_rng(0).standard_normal(shape).astype(inputs[0].dtype)
    fix = "segedge export --dynamic batch writes one that takes any batch"
    try:
        together = backend.run([noise])
    except BackendError as error:
        raise ModelError(
            f"{file.name} says that it takes batches, and fails with two frames",
            facts={"says": error.facts.get("says", str(error))},
            fix=fix,
        ) from error
    alone = [backend.run([noise[k : k + 1]]) for k in range(2)]
    for index, both in enumerate(together):
        single = np.concatenate([one[index] for one in alone])
        if single.shape != both.shape or not _close(single, both):
            raise ModelError(
                f"{file.name} says that it takes batches, and two frames change each other",
                facts={"output": str(outputs[index])},
                fix=fix,
            )


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal but for rounding: batches may be computed by other kernels."""
    if one.dtype.kind in "iu":
        return bool(np.mean(one == other) > 0.999)
    scale = max(float(np.abs(one).max()), 1e-6)
    tolerance = 2e-2 if one.dtype == np.float16 else 1e-3
    return float(np.abs(one - other).max()) <= tolerance * scale


def _external_data(facts: ModelFacts) -> tuple[Path, ...]:
    return () if facts.external_data is None else (facts.external_data,)


def _read_engine(file: Path) -> ServedNetwork:
    engine = read_engine(file)
    if engine.facts is None or engine.card is None:
        raise CardError(
            f"{file.name} lies without the file that says what is in it",
            facts={"expected": f"{file.name}.json, which segedge build wrote beside it"},
            fix="segedge build MODEL.onnx -o model.engine writes both",
        )
    facts = engine.facts
    if facts.flavour == "tensorrt_rtx":
        raise UsageError(
            f"{file.name} cannot be served: Triton loads plans of TensorRT, not of TensorRT-RTX",
            facts={"found": f"built by {facts.library}"},
            fix="segedge build MODEL.onnx --flavour tensorrt on the server's GPU, or serve the"
            " ONNX file",
        )
    return ServedNetwork(
        file,
        engine.card,
        "tensorrt",
        tuple(map(_spec, facts.inputs)),
        tuple(map(_spec, facts.outputs)),
        largest_batch=_largest_batch(facts),
        needs=f"Triton with {facts.library}, on {facts.device}: engines are not portable",
    )


def _spec(tensor: EngineTensor) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.dtype, tensor.shape)


def _largest_batch(facts: EngineFacts) -> int | None:
    """The first axis of the profiles' largest shapes."""
    batches = [tensor.profile[-1][0] for tensor in facts.inputs if tensor.profile]
    return min(batches) if batches else None
