"""Which of a network's outputs is the segmentation: named leaves, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segedge.card.axes import Layout, channel_axis, rows_axis, shape_text
from segedge.card.geometry import Size
from segedge.convert.passes.extent import fits
from segedge.convert.passes.usual_output import output_form
from segedge.errors import ExportError, UsageError, nearest_name

_MAIN_NAMES = ("out", "logits", "pred", "main", "labels")
"""Names that mean the main head wherever they appear: torchvision, Hugging Face, common code."""
_MASK_NAMES = (
    ("class_queries_logits", "masks_queries_logits"),
    ("pred_logits", "pred_masks"),
    ("logits", "pred_masks"),
    ("class_logits", "mask_logits"),
)
"""Names of class and mask logits: Hugging Face, detectron2 and DETR, EoMT's own code."""


@dataclass(frozen=True)
class OutputSpec:
    """One tensor that a network returns."""

    name: str
    """Its key, attribute or position."""
    shape: tuple[int | None, ...]
    """Its shape; None where an axis is not known."""
    usual: tuple[int, ...] | None = None
    """The shape that it is brought to, where its own is not a usual one."""
    is_float: bool = True
    """Whether it holds logits or probabilities rather than labels."""
    logits: str = ""
    """The value that its tail starts from, where that is known."""
    layout: Layout = "nchw"
    """Where its channels are, as far as its shape says."""

    def __str__(self) -> str:
        return f"{self.name} {shape_text(self.shape)}"

    @property
    def channels(self) -> int | None:
        """Channels of an output with four axes."""
        shape = self.usual or self.shape
        return shape[channel_axis(self.layout)] if len(shape) == 4 else None

    @property
    def places(self) -> int:
        """How many places it has; 0 where that is not known."""
        shape = self.usual or self.shape
        rows = rows_axis(self.layout) if len(shape) == 4 else len(shape) - 2
        return (shape[rows] or 0) * (shape[rows + 1] or 0)


def output_spec(
    name: str,
    shape: tuple[int | None, ...],
    *,
    is_float: bool,
    network: Size,
    channels: int | None,
    logits: str = "",
) -> OutputSpec:
    """An output, with the usual shape that it is brought to where its own is none."""
    known = tuple(axis for axis in shape if axis is not None)
    form = output_form(known, is_float=is_float, network=network, channels=channels)
    usual = form.usual if form is not None and len(known) == len(shape) else None
    is_last = len(known) == 4 and fits(known[1:3], network) and not fits(known[2:4], network)
    layout: Layout = "nhwc" if is_last else "nchw"
    return OutputSpec(name, shape, usual, is_float=is_float, logits=logits, layout=layout)


def named_leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """All tensors inside what a module returned, with dotted names.

    It may be any nesting of tuples, lists, dicts and objects such as Hugging Face's ``ModelOutput``
    (a dict) or a named tuple.
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return [(name or "output", value)]
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = list(enumerate(value))
    elif hasattr(value, "__dict__"):
        items = [(key, item) for key, item in vars(value).items() if not key.startswith("_")]
    else:
        return []
    leaves: list[tuple[str, Any]] = []
    for key, item in items:
        leaves += named_leaves(item, f"{name}.{key}" if name else str(key))
    return leaves


def pick_output(
    outputs: Sequence[OutputSpec],
    *,
    wanted: str | None,
    source: str,
    channels: int | None = None,
) -> int:
    """Index of the output that holds the class logits or labels.

    ``wanted`` is the user's ``--output``, an index or a name; ``channels`` how many the named
    classes ask for. Without a usual name it is the finest with that many, the others being deep
    supervision, and the first of equals.
    """
    if not outputs:
        raise ExportError(f"{source} returns no tensor")
    if wanted is not None:
        index = _wanted_index(outputs, wanted)
        _check_dense(outputs[index], source)
        return index
    _refuse_unnamed_masks(outputs, source)
    dense = [index for index, output in enumerate(outputs) if _is_dense(output)]
    if not dense:
        _check_dense(outputs[0], source)
    named = [i for i in dense if outputs[i].name in _MAIN_NAMES]
    candidates = named[:1] or [i for i in dense if not _is_auxiliary(outputs[i])] or dense
    for count in (channels, 1 if channels == 2 else channels):  # one channel is two classes
        fitting = [i for i in candidates if outputs[i].channels == count]
        if len(candidates) > 1 and count is not None and fitting:
            candidates = fitting
    if len(candidates) > 1:
        candidates = _of_one_head(outputs, candidates)
    if len(candidates) > 1:
        candidates = _finest(outputs, candidates)
    if len(candidates) > 1:
        raise _unclear(outputs, source)
    return candidates[0]


def pick_masks(
    outputs: Sequence[OutputSpec], *, wanted: tuple[str, str] | None, source: str
) -> tuple[int, int] | None:
    """Indices of class and mask logits of queries: as named, or by the names that are usual.

    None where the network classifies pixels.
    """
    if wanted is not None:
        classes, masks = (_wanted_index(outputs, name) for name in wanted)
        if not _are_masks(outputs[classes], outputs[masks]):
            raise UsageError(
                f"{source} does not classify masks with these outputs",
                facts={
                    "classes": str(outputs[classes]),
                    "masks": str(outputs[masks]),
                    "expected": "(N, queries, classes + 1) and (N, queries, H/stride, W/stride)",
                },
                fix="--head masks:CLASS_OUTPUT,MASK_OUTPUT, in this order",
            )
        return classes, masks
    index = {output.name.rpartition(".")[2]: i for i, output in reversed([*enumerate(outputs)])}
    for names in _MASK_NAMES:
        if all(name in index for name in names):
            classes, masks = (index[name] for name in names)
            if _are_masks(outputs[classes], outputs[masks]):
                return classes, masks
    return None


def _are_masks(classes: OutputSpec, masks: OutputSpec) -> bool:
    """Whether the shapes are those of queries; axes that are not known fit."""
    if len(classes.shape) != 3 or len(masks.shape) != 4:
        return False
    fit = None in (classes.shape[1], masks.shape[1]) or classes.shape[1] == masks.shape[1]
    return fit and classes.shape[2] != 1


def image_level_error(output: OutputSpec, source: str) -> ExportError:
    """The refusal of a classifier of whole images, and how to make a segmentation head of it."""
    if not output.is_float:
        return ExportError(
            f"{source} gives integers that are no map of its input",
            facts={"found": f"output {output}", "expected": "labels (N, H, W) at some stride"},
            fix="return labels of every place, with rows and columns",
        )
    classes = output.shape[-1] if output.shape and output.shape[-1] else "CLASSES"
    return ExportError(
        f"{source} classifies whole images; segmentation needs logits for every place",
        facts={
            "found": f"output {output}",
            "expected": "(N, classes, H/stride, W/stride), or labels (N, H, W)",
        },
        fix=f"replace flatten + Linear(features, {classes}) by nn.Conv2d(features, {classes}, 1), "
        "without global pooling before it. The weights of a Linear behind global pooling go over "
        "by conv.weight.data = linear.weight.data[:, :, None, None]; one over a flattened map "
        "(features x H x W columns) must be trained anew, on label images",
    )


def _refuse_unnamed_masks(outputs: Sequence[OutputSpec], source: str) -> None:
    """Outputs that may be classes and masks of queries are not taken for logits of pixels."""
    if any(output.name in _MAIN_NAMES for output in outputs):
        return
    for classes in outputs:
        for masks in outputs:
            if _are_masks(classes, masks) and masks.shape[1] is not None:
                raise ExportError(
                    f"{source} has outputs that look like classes and masks of queries",
                    facts={"classes": str(classes), "masks": str(masks)},
                    fix=f"--head masks:{classes.name},{masks.name} where they are, else name the "
                    "output with logits a pixel: --output INDEX|NAME",
                )


def _wanted_index(outputs: Sequence[OutputSpec], wanted: str) -> int:
    names = [output.name for output in outputs]
    if wanted in names:
        return names.index(wanted)
    if wanted.lstrip("-").isdigit() and -len(outputs) <= int(wanted) < len(outputs):
        return int(wanted) % len(outputs)
    near = nearest_name(wanted, names)
    raise UsageError(
        f"no output {wanted!r}" + (f"; did you mean {near!r}?" if near else ""),
        facts={"outputs": _listing(outputs)},
        fix="--output INDEX or NAME of one of these",
    )


def _is_dense(output: OutputSpec) -> bool:
    """Logits (N, C, H, W) or labels (N, H, W); one-pixel grids are image-level in disguise."""
    shape = output.usual or output.shape
    return len(shape) in (3, 4) and not (len(shape) == 4 and shape[2:] == (1, 1))


def _check_dense(output: OutputSpec, source: str) -> None:
    if _is_dense(output):
        return
    if len(output.shape) in (1, 2, 4):
        raise image_level_error(output, source)
    raise ExportError(
        f"output {output.name} of {source} has {len(output.shape)} axes",
        facts={"found": str(output), "expected": "(N, classes, H/stride, W/stride) or (N, H, W)"},
    )


def _of_one_head(outputs: Sequence[OutputSpec], candidates: list[int]) -> list[int]:
    """Of logits and what is made of the same logits, labels say, the logits."""
    floats = [index for index in candidates if outputs[index].is_float]
    logits = {outputs[index].logits for index in candidates}
    return floats if floats and len(logits) == 1 and "" not in logits else candidates


def _is_auxiliary(output: OutputSpec) -> bool:
    return output.name.rpartition(".")[2].lower().startswith("aux")


def _finest(outputs: Sequence[OutputSpec], candidates: list[int]) -> list[int]:
    """Of outputs with as many classes the first with the most places; else all of them."""
    kinds = {(outputs[i].is_float, outputs[i].channels) for i in candidates}
    return [max(candidates, key=lambda i: outputs[i].places)] if len(kinds) == 1 else candidates


def _listing(outputs: Sequence[OutputSpec]) -> str:
    return "; ".join(f"[{index}] {output}" for index, output in enumerate(outputs))


def _unclear(outputs: Sequence[OutputSpec], source: str) -> ExportError:
    return ExportError(
        f"{source} has {len(outputs)} outputs, and it is unclear which is the segmentation",
        facts={"outputs": _listing(outputs)},
        fix="name the main head: --output INDEX|NAME",
    )
