"""Which shapes an engine is built for: the model's own, made static or given a range."""

from __future__ import annotations

from typing import Any

from segedge.card.axes import rows_axis
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.engine.options import BatchRange, BuildOptions, SizeRange
from segedge.errors import UsageError

Shape = tuple[int, ...]
Shapes = tuple[Shape, Shape, Shape]
"""Smallest, usual and largest."""


def input_shapes(name: str, shape: Shape, options: BuildOptions, card: ModelCard | None) -> Shapes:
    """Smallest, usual and largest shape of an input whose dynamic axes are -1.

    The card gives the axis order, and the size where the options give none.
    """
    if len(shape) != 4:
        if -1 in shape:
            raise UsageError(
                f"input {name} has {len(shape)} axes, of which some are dynamic",
                facts={"found": _text(shape), "expected": "an image with 4 axes"},
                fix="export the model with fixed shapes",
            )
        return shape, shape, shape
    first = rows_axis(card.input_layout if card is not None else "nchw")
    batches = _batches(name, shape, options.batch)
    sizes = _sizes(name, shape, first, options.size, card)

    def with_values(index: int) -> Shape:
        values = list(shape)
        values[0] = batches[index]
        values[first : first + 2] = sizes[index]
        return tuple(values)

    result = with_values(0), with_values(1), with_values(2)
    if any(-1 in one for one in result):
        raise UsageError(
            f"the channels of input {name} are dynamic",
            facts={"found": _text(shape)},
            fix="export the model with a fixed number of channels",
        )
    return result


def apply_shapes(network: Any, builder: Any, config: Any, shapes: dict[str, Shapes]) -> None:
    """Fix the axes that have one value, and add a profile for those that have a range."""
    profile = None
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        smallest, usual, largest = shapes[tensor.name]
        tensor.shape = tuple(
            low if low == high else -1 for low, high in zip(smallest, largest, strict=True)
        )
        if smallest != largest:
            profile = profile or builder.create_optimization_profile()
            profile.set_shape(tensor.name, smallest, usual, largest)
    if profile is not None:
        config.add_optimization_profile(profile)


def _batches(name: str, shape: Shape, asked: BatchRange | None) -> tuple[int, int, int]:
    if shape[0] != -1:
        if asked is not None and asked != BatchRange(shape[0], shape[0], shape[0]):
            raise _fixed(name, "batch", str(shape[0]), str(asked), "batch")
        return shape[0], shape[0], shape[0]
    asked = asked or BatchRange()
    return asked.smallest, asked.usual, asked.largest


def _sizes(
    name: str, shape: Shape, first: int, asked: SizeRange | None, card: ModelCard | None
) -> tuple[tuple[int, int], ...]:
    height, width = shape[first], shape[first + 1]
    if asked is None:
        return ((_own(name, height, width, card)),) * 3
    sizes = tuple((s.height, s.width) for s in (asked.smallest, asked.usual, asked.largest))
    for own, values in zip((height, width), zip(*sizes, strict=True), strict=True):
        if own != -1 and set(values) != {own}:
            raise _fixed(name, "size", f"{_axis(height)}x{_axis(width)}", str(asked), "size")
    return sizes


def _own(name: str, height: int, width: int, card: ModelCard | None) -> tuple[int, int]:
    """The model's size; a dynamic axis takes the card's."""
    if height != -1 and width != -1:
        return height, width
    if card is None:
        raise UsageError(
            f"the size of input {name} is dynamic and the model has no card that prefers one",
            facts={"found": f"{_axis(height)}x{_axis(width)}"},
            fix="--size 512x1024 fixes it, --size 256x512:512x1024:1024x2048 gives a range",
        )
    size = Size(card.input_height, card.input_width)
    return (size.height if height == -1 else height, size.width if width == -1 else width)


def _fixed(name: str, what: str, own: str, asked: str, option: str) -> UsageError:
    return UsageError(
        f"the {what} of input {name} is fixed",
        facts={"model": own, "asked": asked},
        fix=f"leave --{option} out, or export the model with --dynamic {option}",
    )


def _axis(value: int) -> str:
    return "?" if value == -1 else str(value)


def _text(shape: Shape) -> str:
    return "x".join(map(_axis, shape))
