"""`segedge export`: a trained PyTorch network to one ONNX file that describes itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from segedge.card.card import ColorOrder, ResizeRule
from segedge.card.geometry import Fit, Size
from segedge.cli.console import print_json, print_prose, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson, parse_words
from segedge.cli.progress import spinner
from segedge.errors import UsageError, unknown_name_error
from segedge.machine.files import megabytes

if TYPE_CHECKING:
    from segedge.convert.options import (
        CheckpointReport,
        DynamicAxis,
        ExportOptions,
        ExportReport,
        Origin,
    )


_ORIGINS: dict[Origin, str] = {
    "option": "as asked",
    "source": "said by {source}",
    "network": "as the network's own graph wants it",
    "assumed": "assumed; {options} where training did otherwise",
}


@dataclass(frozen=True)
class WeightsGroup:
    """What a factory is called with, and what it is filled with."""

    panel: ClassVar[str] = "Network"
    checkpoint: Annotated[Path | None, "Weights for a factory: a state dict or .safetensors."] = (
        None
    )
    key: Annotated[
        str | None, "Which of the checkpoint's state dicts, where several fit; averaged ones first."
    ] = None
    arguments: Annotated[
        list[str] | None, Option("NAME=VALUE for the factory; repeatable.", "--arg")
    ] = None

    @cached_property
    def words(self) -> dict[str, Any]:
        """As `ExportOptions` takes them."""
        from segedge.convert import parse_argument

        return {
            "checkpoint": self.checkpoint,
            "checkpoint_key": self.key,
            "arguments": dict(map(parse_argument, self.arguments or ())),
        }


@dataclass(frozen=True)
class ImagesGroup:
    """How images are prepared; None: as the source says, or as most networks want them."""

    panel: ClassVar[str] = "Images"
    size: Annotated[str | None, "Input size, HEIGHTxWIDTH."] = None
    mean: Annotated[str | None, "Three numbers 0..1; ImageNet's by default."] = None
    std: Annotated[str | None, "Three numbers 0..1; ImageNet's by default."] = None
    color: Annotated[ColorOrder | None, "Channel order the network wants."] = None
    fit: Annotated[Fit | None, "How other shapes are fitted."] = None
    resize: Annotated[ResizeRule | None, "How frames are resampled."] = None

    @cached_property
    def words(self) -> dict[str, Any]:
        """As `ExportOptions` takes them."""
        return {
            "size": None if self.size is None else Size.parse(self.size),
            "mean": _three("--mean", self.mean),
            "std": _three("--std", self.std),
            "color": self.color,
            "fit": self.fit,
            "resize": self.resize,
        }


@dataclass(frozen=True)
class HeadGroup:
    """What the outputs mean, and where the graph ends."""

    panel: ClassVar[str] = "Head"
    classes: Annotated[
        str | None, "cityscapes, camvid, voc, ade20k, coco-panoptic, a comma list, or a text file."
    ] = None
    align_corners: Annotated[
        bool | None,
        Option(
            "How the training code enlarges logits that the graph ends at; half-pixel by default.",
            "--align-corners/--half-pixel",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        "Of one channel: above it is the second class; 0 of logits, half of a range by default.",
    ] = None
    keep_tail: Annotated[
        bool | None,
        Option(
            "Leave upsample and argmax in the graph, or cut them; as the source's own labels want.",
            "--keep-tail/--cut-tail",
        ),
    ] = None
    output: Annotated[str | None, "INDEX or NAME of the main head's output."] = None
    head: Annotated[
        str | None, "masks:CLASS_OUTPUT,MASK_OUTPUT where queries classify masks; else found."
    ] = None
    mask_scale: Annotated[
        int | None, "Enlarge masks 1, 2 or 4 times in the graph before they are summed."
    ] = None

    @cached_property
    def words(self) -> dict[str, Any]:
        """As `ExportOptions` takes them."""
        words = {name: word for name, word in vars(self).items() if name != "head"}
        return {**words, "masks": _masks(self.head)}


def export_command(
    source: Annotated[
        str,
        typer.Argument(
            help="file.py:factory, package.module:factory, a .pt2 program, a TorchScript file, "
            "a Hugging Face folder, or an .onnx file to adopt."
        ),
    ],
    *,
    out: Annotated[Path | None, Option("The ONNX file to write.", "-o --out")] = None,
    weights: WeightsGroup,
    images: ImagesGroup,
    heads: HeadGroup,
    dynamic: Annotated[list[str] | None, "Axes that may vary: batch, size; repeatable."] = None,
    verify: Annotated[
        str | None, "Image, folder, glob or video to measure parity on; else noise."
    ] = None,
    opset: Annotated[int, "ONNX operator set."] = 20,
    as_json: AsJson = False,
) -> None:
    """Export a trained network: one ONNX file with its card, tail cut, parity measured.

    The file appears only when the exported network computes what the original does.
    """
    from segedge.convert import ExportOptions
    from segedge.segment.exported import export

    options = ExportOptions(
        **weights.words,
        **images.words,
        **heads.words,
        dynamic=_axes(dynamic),
        verify=verify,
        opset=opset,
    )
    target = out or _default_path(source, weights.checkpoint)
    with spinner("loading") as show:
        report = export(
            source, target, options=options,
            progress=lambda step, share: show(f"{step}  {share:4.0%}"),
        )  # fmt: skip
    if as_json:
        print_json(report_dict(report))
    else:
        _print(report, options)


def report_dict(report: ExportReport) -> dict[str, object]:
    """The report as plain JSON values, the card among them."""
    import dataclasses

    return {**dataclasses.asdict(report), "path": str(report.path)}


def _print(report: ExportReport, options: ExportOptions) -> None:
    """What was done, what it cost, what to do next."""
    card = report.card
    if report.checkpoint is not None:
        print_row("checkpoint", _checkpoint_line(report.checkpoint))
    elif report.kind == "factory":
        source = card.provenance.source
        print_row("checkpoint", f"none given: the weights are those that {source} makes")
    shape = "x".join(map(str, report.input_shape))
    alignment = "align_corners" if card.align_corners else "half-pixel"
    head = f"logits {report.channels} at stride {card.stride}, {alignment}"
    if card.head == "labels":
        head = f"labels of {len(card.classes)} classes at stride {card.stride}"
    print_row("network", f"in {shape} {card.color.upper()} float32, {head}")
    for number, line in enumerate(_prepared_lines(report)):
        print_prose("images" if number == 0 else "", line)
    print_row("classes", _classes_line(report))
    print_row("tail", _tail_line(report))
    if card.mask_scale is not None:
        print_row(
            "masks",
            f"enlarged x{card.mask_scale} and summed to classes in the graph; parity is with the "
            "labels of the network's own post-processing",
        )
    print_row("parity", _parity_line(report))
    for done in report.passes:
        if done.name == "compute alike" and done.changed:
            print_row("rewrote", f"{done.detail}, which all backends compute alike")
    for caveat in card.caveats:
        print_row("backends", caveat)
    if report.card.parity is not None and report.card.parity.way is not None:
        print_row("own way", str(report.card.parity.way))
    for note in report.notes:
        print_prose("note", note)
    counts = f"{report.nodes} nodes"
    if report.nodes != report.nodes_before:
        counts += f" (from {report.nodes_before})"
    size = megabytes(report.size_bytes)
    print_row("wrote", f"{report.path}  {size}, opset {report.opset}, {counts}")
    print_row("next", f"segedge run {report.path} video.mp4 -o out.mp4")
    if options.verify is None:
        print_row("", "parity was measured on noise; --verify FOLDER measures it on your images")


def _checkpoint_line(loaded: CheckpointReport) -> str:
    parts = [f"{loaded.file}: {loaded.loaded} of {loaded.expected} tensors"]
    if loaded.prefix:
        parts.append(f"prefix {loaded.prefix!r} removed")
    if loaded.key:
        parts.append(f"from key {loaded.key!r}")
    if loaded.ignored:
        first = loaded.ignored[0]
        parts.append(f"{len(loaded.ignored)} without a place in the network, first: {first}")
    if loaded.others:
        parts.append(f"not {', '.join(loaded.others[:4])}, which fits, too: --key chooses")
    if loaded.nameless:
        parts.append(f"not {', '.join(loaded.nameless[:4])}, whose tensors have no names")
    epoch = "" if loaded.epoch is None else f" (epoch {loaded.epoch})"
    return ", ".join(parts) + epoch


def _prepared_lines(report: ExportReport) -> list[str]:
    """How images are prepared, by who says so."""
    card, lines = report.card, []
    shown = {
        "color": card.color.upper(),
        "mean": "mean " + " ".join(f"{value:.4g}" for value in card.mean),
        "std": "std " + " ".join(f"{value:.4g}" for value in card.std),
        "fit": card.fit if card.scaling is None else f"{card.scaling}, then {card.fit}",
        "resize": card.resize,
    }
    for origin, words in _ORIGINS.items():
        names = [name for name in shown if report.prepared.get(name) == origin]
        if names:
            options = ", ".join(f"--{name}" for name in names)
            said = words.format(options=options, source=card.provenance.source)
            lines.append(f"{', '.join(shown[name] for name in names)}: {said}")
    return lines


def _classes_line(report: ExportReport) -> str:
    card = report.card
    shown = ", ".join(card.classes[:6]) + (", ..." if len(card.classes) > 6 else "")
    return f"{len(card.classes)} {card.label_set}: {shown}".replace(" :", ":")


def _tail_line(report: ExportReport) -> str:
    tail = report.tail
    if not tail.cut:
        return f"not cut: {tail.reason}"
    saved = f" ({megabytes(tail.saved_bytes)} of logits a frame no longer made)"
    return f"cut: {', '.join(tail.removed)}{saved if tail.saved_bytes else ''}"


def _parity_line(report: ExportReport) -> str:
    parity = report.card.parity
    assert parity is not None
    what = f"{parity.images} {'images' if parity.kind == 'images' else 'noise images'}"
    error = "labels only"
    if parity.max_logit_error is not None:
        error = f"max logit error {parity.max_logit_error:.1e}"
        if parity.logit_range:
            share = parity.max_logit_error / parity.logit_range
            error += f", {share:.0e} of the range of {parity.logit_range:.3g}"
    equal = f"pixels equal {100 * parity.agreement:.3f} %"
    others = f"{100 * parity.ambiguous:.3f} % ambiguous"
    sizes = f"; at {', '.join(parity.sizes)}" if len(parity.sizes) > 1 else ""
    return f"{what}: {equal} ({others} left out); {error}{sizes}"


def _default_path(source: str, checkpoint: Path | None) -> Path:
    """Without -o: the checkpoint's or source's name in the current folder."""
    name = Path(checkpoint).stem if checkpoint else Path(source.rpartition(":")[2] or source).stem
    path = Path(f"{name}.onnx")
    if Path(source).suffix == ".onnx" and path.resolve() == Path(source).resolve():
        return Path(f"{name}.segedge.onnx")
    return path


def _axes(given: list[str] | None) -> tuple[DynamicAxis, ...]:
    """``--dynamic batch --dynamic size`` or ``--dynamic batch,size``, each axis once."""
    axes: dict[str, DynamicAxis] = {"batch": "batch", "size": "size"}
    words = parse_words(given)
    for word in words:
        if word not in axes:
            raise unknown_name_error("dynamic axis", word, tuple(axes))
    return tuple(axes[word] for word in words)


def _masks(head: str | None) -> tuple[str, str] | None:
    """``masks:CLASSES,MASKS``."""
    if head is None:
        return None
    kind, _, names = head.partition(":")
    classes, comma, masks = names.partition(",")
    if kind != "masks" or not comma or not classes.strip() or not masks.strip():
        raise UsageError(
            f"no head {head!r}",
            facts={"expected": "masks:CLASS_OUTPUT,MASK_OUTPUT, names or indices of outputs"},
            fix="--head masks:pred_logits,pred_masks; --output NAME for a head of pixels",
        )
    return classes.strip(), masks.strip()


def _three(option: str, text: str | None) -> tuple[float, float, float] | None:
    """``"0.485,0.456,0.406"`` or one number for all three."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise UsageError(
            f"{option} {text!r} is not three numbers", fix=f"e.g. {option} 0.485,0.456,0.406"
        )
    return values[0], values[1], values[2]
