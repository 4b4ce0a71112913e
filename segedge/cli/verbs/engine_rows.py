"""An engine in rows, for `segedge build` and `segedge inspect`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from segedge.cli.console import out, print_json, print_row
from segedge.engine.builder.inspect import EngineReport, engine_inspect, layer_bytes
from segedge.engine.layers import EngineLayer, precision_counts
from segedge.machine.files import megabytes

_NAMED = 8
"""How many layers that stayed fp32 are named."""
_CLASSES = 4
"""How many classes are named."""
_COLUMNS = 100


def inspect_engine(file: Path, *, as_json: bool) -> None:
    """`segedge inspect model.engine`: everything that can be said of it here."""
    report = engine_inspect(file)
    if as_json:
        print_json(report.to_dict())
        return
    print_row("file", f"{file.name}  {megabytes(report.size_bytes)}, {_where_from(report)}")
    print_engine(report, layers=True)
    print_row("card", _card_text(report))
    for key, value in report.metadata.items():
        print_row(key, value[:_COLUMNS])
    print_row("here", report.here)
    if report.card is not None:
        print_row("next", f"segedge run {file} video.mp4 -o out.mp4")


def print_engine(report: EngineReport, *, layers: bool = False) -> None:
    """Library, device, tensors, layers by precision, what stayed fp32, and each layer if asked."""
    print_row("engine", f"{report.library}, for {report.device}")
    for tensor in (*report.inputs, *report.outputs):
        label = "input" if tensor in report.inputs else "output"
        ranges = " : ".join("x".join(map(str, shape)) for shape in tensor.profile)
        print_row(label, f"{tensor}{'  from ' + ranges if ranges else ''}")
    print_row("layers", _layer_counts(report) if report.engine_layers else report.layers_from)
    for text in _kept_fp32(report):
        print_row("fp32", text)
    for line in report.facts.warnings if report.facts else ():
        print_row(report.precision, line)
    if layers:
        _print_layers(report.engine_layers)


def _where_from(report: EngineReport) -> str:
    facts = report.facts
    if facts is None:
        return "nothing beside it says where it is from"
    return f"built from {facts.model} on {facts.built[:10]} in {facts.build_seconds:.1f} s"


def _card_text(report: EngineReport) -> str:
    card = report.card
    if card is None:
        return "none: classes and preprocessing are unknown"
    names = f"{card.label_set}: " if card.label_set else ""
    more = ", ..." if len(card.classes) > _CLASSES else ""
    size = f"{card.input_height}x{card.input_width}"
    classes = f"{len(card.classes)} classes, {names}{', '.join(card.classes[:_CLASSES])}{more}"
    return f"{classes}; {card.fit} to {size}"


def _layer_counts(report: EngineReport) -> str:
    counts = precision_counts(report.engine_layers)
    # Layers without a type are those that only wait for others.
    names = {name: "other" if name == "-" else name for name in counts}
    kinds = ", ".join(f"{number} {names[name]}" for name, number in counts.items())
    nodes = len(report.network_layers)
    return f"{len(report.engine_layers)} ({kinds})" + (f", of {nodes} in the network" * bool(nodes))


def _kept_fp32(report: EngineReport) -> Iterator[str]:
    """What an fp16 or int8 engine computes in fp32, with the reason where the converter gave it."""
    if report.precision in ("", "fp32"):
        return
    rows = list(report.facts.kept_fp32 if report.facts else ())
    told = {row.split(" ")[0] for row in rows}
    rows += [node.name for node in report.fp32_nodes if node.name not in told]
    if not rows:
        rows = list(dict.fromkeys(title_of(layer) for layer in report.fp32_layers))
    if not rows:
        yield "nothing stayed fp32"
        return
    yield f"{len(rows)} layer{'s' * (len(rows) > 1)} stayed fp32"
    yield from rows[:_NAMED]
    if len(rows) > _NAMED:
        yield f"and {len(rows) - _NAMED} more"


def _print_layers(layers: tuple[EngineLayer, ...]) -> None:
    console = out()
    for number, layer in enumerate(layers):
        shapes = " ".join("x".join(map(str, t.shape)) or "scalar" for t in layer.outputs)
        formats = "/".join(sorted({_format_word(t.format) for t in layer.outputs if t.format}))
        size = megabytes(layer_bytes(layer)) if layer.outputs else ""
        row = (
            f"{number:>4}  {layer.precision or '-':<9}  {shapes:<16} {formats:<6} {size:>8}  "
            f"{layer.kind}: {title_of(layer)}"
        )
        console.print(Text(row if len(row) <= _COLUMNS else f"{row[: _COLUMNS - 1]}…"))


def title_of(layer: EngineLayer) -> str:
    """The ONNX nodes inside a layer, the first three of them, or its own name."""
    nodes = ", ".join(layer.nodes[:3])
    return f"{nodes} ..." if len(layer.nodes) > 3 else nodes or layer.name


def _format_word(text: str) -> str:
    """``NHWC`` from ``(NHWC) Channel major format``, ``CHW4`` from TensorRT 10's sentences."""
    if match := re.match(r"\((\w+)\)", text):
        return match[1]
    if match := re.search(r"channel % (\d+) == 0", text):
        return f"HWC{match[1]}" if text.startswith("Channel major") else f"CHW{match[1]}"
    vectors = {"Two": 2, "Four": 4, "Sixteen": 16, "Thirty-two": 32}
    if (match := re.match(r"([\w-]+) wide channel vectorized", text)) and match[1] in vectors:
        return f"CHW{vectors[match[1]]}"
    return "Linear" if text.startswith("Row major linear") else text.split(" ")[0]
