"""What an engine holds, for `segedge inspect` and `segedge build --layers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segedge.card.card import ModelCard
from segedge.card.plain import to_plain
from segedge.engine.builder.log import build_log, recorded
from segedge.engine.builder.network import fp32_in_half_network
from segedge.engine.check import check_engine
from segedge.engine.facts import EngineFacts, EngineTensor, NetworkLayer
from segedge.engine.file import EngineFile, read_engine
from segedge.engine.flavour import TITLES, Flavour, load_flavour
from segedge.engine.layers import EngineLayer, parse_inspector_json, precision_counts, stayed_fp32
from segedge.errors import SegedgeError
from segedge.machine.gpu import Driver, find_driver

_BYTES_OF = {
    "fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "uint8": 1, "fp8": 1, "int32": 4, "int64": 8,
    "bool": 1,
}  # fmt: skip
_BUILD_FACTS = (
    "model", "onnx_sha256", "plan_sha256", "options", "built", "build_seconds", "segedge",
    "warnings", "kept_fp32",
)  # fmt: skip


@dataclass(frozen=True)
class EngineReport:
    """Everything that can be said of an engine here."""

    path: Path
    size_bytes: int
    library: str
    """``TensorRT-RTX 1.7.1``: who built it."""
    device: str
    """The GPU or the targets that it was built for; ``not said`` where nobody knows."""
    precision: str
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    engine_layers: tuple[EngineLayer, ...]
    network_layers: tuple[NetworkLayer, ...]
    layers_from: str
    """Where the layers are from: ``the engine``, ``the build``, or why there are none."""
    here: str
    """Whether it can run on this machine, and why not."""
    facts: EngineFacts | None
    card: ModelCard | None
    metadata: Mapping[str, str]
    """What stood before the plan (Ultralytics), else empty."""

    @property
    def fp32_layers(self) -> tuple[EngineLayer, ...]:
        """Fused layers of an fp16 or int8 engine that compute in fp32; empty for an fp32 engine."""
        return () if self.precision == "fp32" else stayed_fp32(self.engine_layers)

    @property
    def fp32_nodes(self) -> tuple[NetworkLayer, ...]:
        """The same for the network that the engine was built from."""
        return () if self.precision != "fp16" else fp32_in_half_network(self.network_layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        facts = self.facts
        data = to_plain(replace(self, facts=None))
        del data["facts"]
        return {
            **data,
            "fp32_layers": [layer.name for layer in self.fp32_layers],
            "precisions": precision_counts(self.engine_layers),
            "build": facts and {name: to_plain(getattr(facts, name)) for name in _BUILD_FACTS},
        }


def engine_inspect(path: str | Path) -> EngineReport:
    """What an engine holds.

    The layers come from the engine itself where its library and a GPU are here, else from what was
    recorded beside it when it was built.
    """
    file = read_engine(path)
    driver = find_driver()
    layers, source = _layers(file, driver)
    return report_of(file, layers, source, here=_fitness(file, driver))


def report_of(
    file: EngineFile, layers: tuple[EngineLayer, ...], source: str, *, here: str = ""
) -> EngineReport:
    """Put together what a file, the file beside it and the inspector say."""
    facts, header = file.facts, file.header
    title = f"{TITLES[header.flavour]} {'.'.join(map(str, header.version))}"
    device = facts.device if facts else ", ".join(header.targets)
    return EngineReport(
        path=file.path,
        size_bytes=len(file.plan),
        library=title,
        device=device or "not said",
        precision=facts.precision if facts else "",
        inputs=facts.inputs if facts else (),
        outputs=facts.outputs if facts else (),
        engine_layers=layers,
        network_layers=facts.network_layers if facts else (),
        layers_from=source,
        here=here,
        facts=facts,
        card=file.card,
        metadata=file.metadata,
    )


def inspect_layers(flavour: Flavour, plan: bytes) -> tuple[EngineLayer, ...]:
    """An engine's layers by its own inspector; it is loaded onto the GPU for that.

    Empty where TensorRT refuses to load it.
    """
    trt = flavour.module
    with recorded(flavour):
        runtime = trt.Runtime(build_log(flavour))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            return ()
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_inspector_json(text)


def layer_bytes(layer: EngineLayer) -> int:
    """Bytes of a layer's outputs."""
    total = 0
    for tensor in layer.outputs:
        size = _BYTES_OF.get(tensor.dtype, 0)
        for axis in tensor.shape:
            size *= max(axis, 1)
        total += size
    return total


def _fitness(file: EngineFile, driver: Driver) -> str:
    """Whether the library and the GPU of this machine are those that an engine needs."""
    try:
        flavour = load_flavour(file.header.flavour, purpose="run this engine")
        warnings = check_engine(file, flavour=flavour, gpu=driver.gpu)
    except SegedgeError as error:
        facts = (f"{label} {text}" for label, text in error.facts.items())
        return "; ".join((f"cannot run: {error.headline}", *facts))
    if driver.gpu is None:
        return f"cannot run: {driver.problem}"
    return "; ".join((f"fits {flavour} and {driver.gpu}", *warnings))


def _layers(file: EngineFile, driver: Driver) -> tuple[tuple[EngineLayer, ...], str]:
    if file.facts is not None and file.facts.engine_layers:
        return file.facts.engine_layers, "the build"
    if driver.gpu is None:
        return (), f"not known: the engine inspector needs a GPU, and {driver.problem}"
    try:
        flavour = load_flavour(file.header.flavour, purpose="inspect engines")
    except SegedgeError as error:
        return (), f"not known: {error.headline}"
    layers = inspect_layers(flavour, file.plan)
    return layers, "the engine" if layers else f"not known: {flavour} refuses to load it"
