"""How a map lies over the network's input: its stride by the operators, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from segedge.card.geometry import Size
from segedge.errors import ExportError
from segedge.graph.kit import Node, Value, attribute, constant, shape_of

Strides = tuple[Fraction, Fraction]
_GROUPED = 4
"""So many operators a group norm is written with, at most."""
_DOWN = ("Conv", "MaxPool", "AveragePool", "LpPool", "QLinearConv", "ConvInteger")
_KEEPING = (
    "Identity", "Cast", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish",
    "Tanh", "Elu", "Selu", "Gelu", "Softplus", "Mish", "Erf", "Softmax", "LogSoftmax", "Neg", "Abs",
    "Exp", "Sqrt", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "Dropout",
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Concat", "Slice", "Pad", "Split",
    "QuantizeLinear", "DequantizeLinear", "Where", "Pow", "Transpose",
)  # fmt: skip
"""What leaves a place where it is; Slice and Pad change how many there are."""


_STRETCHED = (
    "its map of {} has another shape than its input of {}, and its operators do not say where it "
    "lies: it is stretched over all of it"
)


def fits(plane: Sequence[int], network: Size) -> bool:
    """Whether rows and columns are the network's at one stride, a cell more or less."""
    (rows, columns), least, most = plane, 0.0, float("inf")
    for count, length in ((rows, network.height), (columns, network.width)):
        least = max(least, length / (count + 1))
        most = min(most, length / (count - 1) if count > 1 else float("inf"))
    return least < most


def in_front_of(reshape: Node) -> Value | None:
    """What has a Reshape's shape a few operators before: group norms are written so."""
    value = reshape.inputs[0]
    for _ in range(_GROUPED):
        maker = value.producer()
        if maker is None or not maker.inputs or maker.inputs[0] is None:
            return None
        value = maker.inputs[0]
        if shape_of(value) == shape_of(reshape.outputs[0]):
            return value
    return None


def margin_note(value: Value, grid: Size, network: Size) -> str:
    """How a map misses the input that the tail lays it over, for people; mostly it does not.

    Maps of padded convolutions fit within a cell. ExportError: this one's border is a cell or more
    off at each side.
    """
    if grid == network:
        return ""
    strides = _Strides().of(value)
    if strides is None:
        return "" if fits((grid.height, grid.width), network) else _STRETCHED.format(grid, network)
    counts, lengths = (grid.height, grid.width), (network.height, network.width)
    cells = [
        abs(length - count * stride) / stride
        for count, length, stride in zip(counts, lengths, strides, strict=True)
    ]
    if max(cells) >= 2:
        raise _refusal(grid, network, strides)
    if max(cells) < 1:
        return ""
    return (
        f"its map of {grid} at stride {float(strides[0]):g} does not quite cover its input of "
        f"{network}, as of convolutions without padding: it is stretched over all of it"
    )


def _refusal(grid: Size, network: Size, strides: Strides) -> ExportError:
    down, right = (float(stride) for stride in strides)
    rows, columns = network.height - grid.height * down, network.width - grid.width * right
    stride = f"{down:g}" if down == right else f"{down:g}x{right:g}"
    where = "beyond it" if min(rows, columns) < 0 else "left out"
    found = f"a map of {grid} for an input of {network}"
    if (grid.width * right, grid.height * down) == (network.height, network.width):
        raise ExportError(
            "rows and columns of the network's map are swapped",
            facts={"found": found},
            fix="swap them back at the end of forward: logits.transpose(2, 3)",
        )
    facts = {
        "found": found,
        "it covers": f"{grid.height * down:g}x{grid.width * right:g} pixels, at stride {stride}",
        "margin": f"{abs(rows) / 2:g} rows, {abs(columns) / 2:g} columns a side {where}",
    }
    return ExportError(
        "the network's map does not lie over its input (convolutions without padding?)",
        facts=facts,
        fix="let forward say where its map lies: F.pad(logits, (left, right, top, bottom), "
        "mode='replicate') in cells where it is the middle, or F.interpolate(logits, "
        "size=image.shape[-2:]) where training stretched it over the picture",
    )


class _Strides:
    """Pixels of the input a cell, along the first way back to it that says so."""

    def __init__(self) -> None:
        self._known: dict[int, Strides | None] = {}

    def of(self, value: Value) -> Strides | None:
        """Rows and columns; None where an operator on the way is not known."""
        stack = [value]
        while stack:
            top = stack[-1]
            if id(top) in self._known:
                stack.pop()
                continue
            node = top.producer()
            sources = [] if node is None else _sources(node)
            unknown = [s for s in sources if id(s) not in self._known]
            if unknown and not any(self._known.get(id(s)) for s in sources):
                stack.append(unknown[0])
                continue
            self._known[id(top)] = self._through(top, node, sources)
            stack.pop()
        return self._known[id(value)]

    def _through(self, value: Value, node: Node | None, sources: list[Value]) -> Strides | None:
        if node is None:
            return (Fraction(1), Fraction(1)) if value.is_graph_input() else None
        before = next((s for s in map(self._at, sources) if s is not None), None)
        factor = _factor(node)
        if before is None or factor is None:
            return None
        return before[0] * factor[0], before[1] * factor[1]

    def _at(self, value: Value) -> Strides | None:
        return self._known.get(id(value))


def _sources(node: Node) -> list[Value]:
    """The inputs that are maps: not constants, nor what is one number a channel."""
    if node.op_type == "Reshape":
        before = in_front_of(node)
        return [] if before is None else [before]
    several = node.op_type in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Concat")
    inputs = node.inputs if several else node.inputs[node.op_type == "Where" :][:1]
    return [
        value
        for value in inputs
        if value is not None
        and constant(value) is None
        and (shape_of(value) or (0, 0, 0, 0))[-2:] != (1, 1)
    ]


def _factor(node: Node) -> Strides | None:
    """What an operator of NCHW maps multiplies strides by."""
    one = Fraction(1)
    if node.op_type == "Reshape":
        return one, one
    if node.op_type == "Slice" and not _every_one(node):
        return None
    if node.op_type in _KEEPING:
        return one, one
    if node.op_type in _DOWN:
        down, right = (attribute(node, "strides", None) or (1, 1))[:2]
        return Fraction(down), Fraction(right)
    if node.op_type == "ConvTranspose":
        up, along = (attribute(node, "strides", None) or (1, 1))[:2]
        return Fraction(1, up), Fraction(1, along)
    if node.op_type in ("DepthToSpace", "SpaceToDepth"):
        block = Fraction(attribute(node, "blocksize", 1))
        factor = 1 / block if node.op_type == "DepthToSpace" else block
        return factor, factor
    if node.op_type in ("Resize", "Upsample"):
        source, result = shape_of(node.inputs[0]), shape_of(node.outputs[0])
        before = [axis for axis in source or () if axis is not None]
        after = [axis for axis in result or () if axis is not None]
        if len(before) != 4 or len(after) != 4:
            return None
        rows = 2 if before[1] == after[1] else 1
        return Fraction(before[rows], after[rows]), Fraction(before[rows + 1], after[rows + 1])
    return None


def _every_one(node: Node) -> bool:
    """Whether a Slice takes neighbours rather than every second place, say."""
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else None
    return len(node.inputs) < 5 or (steps is not None and bool((steps == 1).all()))
