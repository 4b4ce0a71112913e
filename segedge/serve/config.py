"""Model configurations as messages of Triton's own protobuf schema.

They are made as messages and printed by protobuf, so a field that the server does not know, or a
value of another type, cannot come about. The schema:
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segedge.backends.base import TensorSpec
from segedge.card.card import CARD_KEY, ModelCard
from segedge.errors import ModelError
from segedge.machine.optional import require
from segedge.segment.fitting import head_of, network_size
from segedge.serve.network import ServedNetwork
from segedge.serve.options import TritonOptions

LABELS_FILE = "labels.txt"
"""Class names, a line each, beside a configuration."""
FRAME, TENSOR, LOGITS, LABELS, OVERLAY = "frame", "tensor", "logits", "labels", "overlay"
"""Tensors of the steps: frame H x W x 3 uint8 BGR, labels H x W, overlay H x W x 3 uint8 BGR."""
PREPROCESS, TAIL, FRAMES = "_preprocess", "_tail", "_frames"
"""What is appended to the network's name to name the ensemble and its steps."""

_TYPE_OF = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "float64": "TYPE_FP64",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}

Config = Any
"""``model_config_pb2.ModelConfig``; the generated module carries no types."""


def schema() -> Any:
    """The server's own schema, as tritonclient ships it."""
    return require("tritonclient.grpc.model_config_pb2", purpose="write a Triton repository")


def as_text(config: Config, *, head: str) -> str:
    """A configuration as the text of ``config.pbtxt``; ``head`` is a comment before it."""
    text_format = require("google.protobuf.text_format", purpose="write a Triton repository")
    text: str = text_format.MessageToString(config, as_utf8=True)
    return f"# {head}\n{text}"


def parse_text(text: str) -> Config:
    """Read a ``config.pbtxt`` by the server's schema."""
    text_format = require("google.protobuf.text_format", purpose="read a Triton repository")
    try:
        return text_format.Parse(text, schema().ModelConfig())
    except text_format.ParseError as error:
        raise ModelError(
            "config.pbtxt is not of Triton's schema", facts={"found": str(error)}
        ) from error


def max_batch_size(network: ServedNetwork, options: TritonOptions) -> int:
    """What the configuration says: 0 where the network has no batch axis."""
    if not network.has_batch_axis:
        return 0
    return min(options.max_batch, network.largest_batch or options.max_batch)


def network_config(network: ServedNetwork, options: TritonOptions, *, name: str) -> Config:
    """The network itself: tensors in, logits out."""
    proto = schema()
    batch = max_batch_size(network, options)
    config = proto.ModelConfig(name=name, backend=network.backend, max_batch_size=batch)
    head = head_of(network.card, network.outputs)
    for spec in network.inputs:
        config.input.add(**_tensor(spec, batched=batch > 0))
    for spec in network.outputs:
        labels = LABELS_FILE if spec is head else ""
        config.output.add(**_tensor(spec, batched=batch > 0), label_filename=labels)
    if batch > 1:
        config.dynamic_batching.max_queue_delay_microseconds = options.delay_us
    _add_instances(config, network, options)
    _add_card(config, network)
    if options.warm_up:
        sizes = sorted({1, batch}) if batch else [1]
        for size in sizes:
            shape = _concrete(network, network.inputs[0])
            _add_warm_up(config, {network.inputs[0]: shape[1:] if batch else shape}, batch=size)
    return config


def preprocess_config(network: ServedNetwork, options: TritonOptions, *, name: str) -> Config:
    """The step before the network: a frame to its input tensor."""
    config = _step(network, options, name=name)
    spec = network.inputs[0]
    tensor = TensorSpec(TENSOR, spec.dtype, _concrete(network, spec))
    config.input.add(**_tensor(_FRAME_SPEC))
    config.output.add(**_tensor(tensor))
    if options.warm_up:
        _add_warm_up(config, {_FRAME_SPEC: (*_frame_size(network), 3)})
    return config


def tail_config(network: ServedNetwork, options: TritonOptions, *, name: str) -> Config:
    """The step behind the network: its output, and the frame, to labels and overlay."""
    config = _step(network, options, name=name)
    head = head_of(network.card, network.outputs)
    logits = TensorSpec(LOGITS, head.dtype, _single(head))
    config.input.add(**_tensor(_FRAME_SPEC))
    config.input.add(**_tensor(logits))
    _add_picture_outputs(config, network, options)
    if options.warm_up and None not in logits.shape:
        _add_warm_up(config, {_FRAME_SPEC: (*_frame_size(network), 3), logits: tuple(logits.shape)})
    return config


def frames_config(
    network: ServedNetwork, options: TritonOptions, *, name: str, steps: tuple[str, str, str]
) -> Config:
    """The ensemble: frame in, labels out, through preprocessing, network and tail."""
    config = schema().ModelConfig(name=name, platform="ensemble", max_batch_size=0)
    config.input.add(**_tensor(_FRAME_SPEC))
    _add_picture_outputs(config, network, options)
    _add_card(config, network)
    head = head_of(network.card, network.outputs).name
    pictures = {name: name for name in _picture_outputs(options)}
    maps: Sequence[tuple[dict[str, str], dict[str, str]]] = (
        ({FRAME: FRAME}, {TENSOR: "network_input"}),
        ({network.inputs[0].name: "network_input"}, {head: "network_output"}),
        ({FRAME: FRAME, LOGITS: "network_output"}, pictures),
    )
    for step, (inputs, outputs) in zip(steps, maps, strict=True):
        config.ensemble_scheduling.step.add(
            model_name=step, model_version=-1, input_map=inputs, output_map=outputs
        )
    return config


_FRAME_SPEC = TensorSpec(FRAME, "uint8", (None, None, 3))


def _step(network: ServedNetwork, options: TritonOptions, *, name: str) -> Config:
    """A model of the Python backend, one frame a request, on the CPU."""
    proto = schema()
    config = proto.ModelConfig(name=name, backend="python", max_batch_size=0)
    kind = proto.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(count=options.step_instances, kind=kind)
    if options.python_env:
        config.parameters["EXECUTION_ENV_PATH"].string_value = options.python_env
    _add_card(config, network)
    return config


def _picture_outputs(options: TritonOptions) -> tuple[str, ...]:
    return (LABELS, OVERLAY) if options.overlay else (LABELS,)


def _add_picture_outputs(config: Config, network: ServedNetwork, options: TritonOptions) -> None:
    label_dtype = "uint8" if len(network.card.classes) <= 256 else "uint16"
    specs = {
        LABELS: TensorSpec(LABELS, label_dtype, (None, None)),
        OVERLAY: TensorSpec(OVERLAY, "uint8", (None, None, 3)),
    }
    for name in _picture_outputs(options):
        labels = LABELS_FILE if name == LABELS else ""
        config.output.add(**_tensor(specs[name]), label_filename=labels)


def _tensor(spec: TensorSpec, *, batched: bool = False) -> dict[str, Any]:
    """Name, type and shape as Triton says them: without the batch axis, -1 where they vary."""
    dtype = _TYPE_OF.get(spec.dtype)
    if dtype is None:
        raise ModelError(
            f"tensor {spec.name} is of a type that Triton does not have",
            facts={"found": spec.dtype, "expected": ", ".join(_TYPE_OF)},
        )
    shape = spec.shape[1:] if batched else spec.shape
    return {
        "name": spec.name,
        "data_type": schema().DataType.Value(dtype),
        "dims": [-1 if axis is None else axis for axis in shape],
    }


def _add_instances(config: Config, network: ServedNetwork, options: TritonOptions) -> None:
    groups = schema().ModelInstanceGroup
    kind = {"auto": groups.KIND_AUTO, "cpu": groups.KIND_CPU, "gpu": groups.KIND_GPU}[options.kind]
    if network.backend == "tensorrt" or options.gpus:
        kind = groups.KIND_GPU
    config.instance_group.add(count=options.instances, kind=kind, gpus=options.gpus)


def _add_card(config: Config, network: ServedNetwork) -> None:
    config.parameters[CARD_KEY].string_value = served_card(network).to_json()


def served_card(network: ServedNetwork) -> ModelCard:
    """The card with the size that the network really takes: its steps have nothing else."""
    height, width = _frame_size(network)
    return network.card.replace(input_height=height, input_width=width)


def _add_warm_up(
    config: Config, shapes: dict[TensorSpec, tuple[int | None, ...]], *, batch: int = 1
) -> None:
    sample = config.model_warmup.add(name=f"zeros, batch {batch}", batch_size=batch)
    for spec, shape in shapes.items():
        tensor = _tensor(TensorSpec(spec.name, spec.dtype, shape))
        entry = sample.inputs[tensor["name"]]
        entry.data_type, entry.zero_data = tensor["data_type"], True
        entry.dims.extend(tensor["dims"])


def _concrete(network: ServedNetwork, spec: TensorSpec) -> tuple[int, ...]:
    """Shape of the input for one frame: the card's size where the network's own varies."""
    height, width = _frame_size(network)
    nchw = network.card.input_layout == "nchw"
    return (1, 3, height, width) if nchw else (1, height, width, 3)


def _frame_size(network: ServedNetwork) -> tuple[int, int]:
    size = network_size(network.card, network.inputs[0])
    return size.height, size.width


def _single(spec: TensorSpec) -> tuple[int | None, ...]:
    """An output's shape for one frame."""
    return (1, *spec.shape[1:])
