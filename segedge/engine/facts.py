"""EngineFacts: what is known of an engine without loading it; the JSON beside the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from segedge.card.axes import shape_text
from segedge.card.card import ModelCard
from segedge.card.plain import from_plain, parse_json, to_plain
from segedge.engine.layers import EngineLayer
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
        return f"{self.name} {shape_text(self.shape)} {self.dtype}"


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
    proof: str = field(default="", repr=False)
    """The model's proof as its metadata holds it, so that the engine can be checked; or empty."""
    familiar: str = field(default="", repr=False)
    """What its answers look like on images that it knows, as its metadata holds it; or empty."""

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
        card = self.card.to_plain() if self.card else None
        data = {"schema": SCHEMA, **to_plain(self), "card": card}
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, name: str) -> EngineFacts:
        """Read what `to_json` wrote into the file of this name."""
        try:
            data = dict(parse_json(text))
            schema = data.get("schema")
            if not isinstance(schema, int) or schema > SCHEMA:
                raise ValueError(f"schema {schema}, this segedge knows up to {SCHEMA}")
            card = data.pop("card", None)
            facts = from_plain(cls, data)
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{name} does not describe an engine",
                facts={"found": f"{type(error).__name__}: {error}"},
                fix="segedge build MODEL.onnx -o ... writes the plan and this file anew",
            ) from error
        return replace(facts, card=ModelCard.from_plain(card)) if card else facts
