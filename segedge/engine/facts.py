"""EngineFacts: what is known of an engine without loading it; the JSON beside the plan."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segedge.card.card import ModelCard
from segedge.engine.layers import EngineLayer, layers_from_json, layers_to_json
from segedge.engine.options import Precision
from segedge.errors import ModelError

SCHEMA = 1
"""Version of the JSON and of what engines are built from: part of every cache key."""


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine."""

    name: str
    dtype: str
    """NumPy's name: ``float32``, ``float16``, ``uint8``."""
    shape: tuple[int | None, ...]
    """None where an axis is dynamic."""
    profile: tuple[tuple[int, ...], ...] = ()
    """Smallest, usual and largest shape of a dynamic input; empty for the others."""

    def __str__(self) -> str:
        axes = "x".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} {axes} {self.dtype}"


@dataclass(frozen=True)
class NetworkLayer:
    """A layer of the network that TensorRT was given: one ONNX node, or a part of one."""

    name: str
    kind: str
    """TensorRT's layer type: ``CONVOLUTION``."""
    precision: str
    """Type of its first output: ``fp32``, ``fp16``, ``int8`` ..."""
    shape: tuple[int, ...]
    """Shape of its first output; -1 where dynamic."""


@dataclass(frozen=True)
class EngineFacts:
    """Where an engine is from, what it was built for, and what is in it."""

    model: str
    """File name of the ONNX model, without folders."""
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    flavour: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    version: str
    """Version of the library that built it, e.g. ``10.13.3``."""
    gpu: str
    """Name of the GPU that it was built on; empty for one that was built ahead of time."""
    capability: str
    """``sm_87`` of that GPU, or empty."""
    targets: tuple[str, ...]
    """GPUs that a TensorRT-RTX engine was built for: ``sm_80 sm_86 ...``."""
    precision: Precision
    """What the network computes in: ``fp32``, ``fp16`` or ``int8``."""
    options: Mapping[str, Any]
    """`BuildOptions.to_dict`."""
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    built: str
    """UTC time, ISO 8601."""
    build_seconds: float
    """Converting to fp16 included."""
    segedge: str
    """Version of segedge that built it."""
    origin: str = ""
    """Hash of where the model lay, by which a cache tells "the model changed"; no path."""
    warnings: tuple[str, ...] = ()
    """What fp16 conversion did, and how well it agrees, in lines for people."""
    kept_fp32: tuple[str, ...] = ()
    """``node (operator): reason`` of each node that fp16 conversion left in fp32."""
    network_layers: tuple[NetworkLayer, ...] = ()
    engine_layers: tuple[EngineLayer, ...] = ()
    """Layers after fusion, where TensorRT told them at build time."""
    card: ModelCard | None = field(default=None, repr=False)
    """The model's card, so that the engine runs without the ONNX file."""

    @property
    def library(self) -> str:
        """``TensorRT 10.13.3``."""
        title = "TensorRT-RTX" if self.flavour == "tensorrt_rtx" else "TensorRT"
        return f"{title} {self.version}"

    @property
    def device(self) -> str:
        """``Orin (sm_87)``, or the targets of an engine that was built ahead of time."""
        return f"{self.gpu} ({self.capability})" if self.gpu else ", ".join(self.targets)

    def to_json(self) -> str:
        """The text of the file beside the plan."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["inputs"] = [dataclasses.asdict(t) for t in self.inputs]
        data["outputs"] = [dataclasses.asdict(t) for t in self.outputs]
        data["network_layers"] = [dataclasses.asdict(layer) for layer in self.network_layers]
        data["engine_layers"] = layers_to_json(self.engine_layers)
        data["options"] = dict(self.options)
        data["card"] = json.loads(self.card.to_json()) if self.card else None
        return json.dumps({"schema": SCHEMA, **data}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, name: str) -> EngineFacts:
        """Read what `to_json` wrote."""
        try:
            data = dict(json.loads(text))
            schema = data.pop("schema", None)
            if not isinstance(schema, int) or schema > SCHEMA:
                raise ValueError(f"schema {schema}, this segedge knows up to {SCHEMA}")
            known = {f.name for f in dataclasses.fields(cls)}
            values = {key: value for key, value in data.items() if key in known}
            values["inputs"] = tuple(map(_tensor, values["inputs"]))
            values["outputs"] = tuple(map(_tensor, values["outputs"]))
            values["network_layers"] = tuple(map(_layer, values.get("network_layers", ())))
            values["engine_layers"] = layers_from_json(values.get("engine_layers", ()))
            values["targets"] = tuple(values.get("targets", ()))
            values["warnings"] = tuple(values.get("warnings", ()))
            values["kept_fp32"] = tuple(values.get("kept_fp32", ()))
            card = values.get("card")
            values["card"] = ModelCard.from_json(json.dumps(card)) if card else None
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"{name} does not describe an engine",
                facts={"found": f"{type(error).__name__}: {error}"},
                fix="segedge build MODEL.onnx -o ... writes the plan and this file anew",
            ) from error


def _tensor(row: Mapping[str, Any]) -> EngineTensor:
    profile = tuple(tuple(shape) for shape in row.get("profile", ()))
    return EngineTensor(row["name"], row["dtype"], tuple(row["shape"]), profile)


def _layer(row: Mapping[str, Any]) -> NetworkLayer:
    return NetworkLayer(row["name"], row["kind"], row["precision"], tuple(row["shape"]))
