"""Which axis of a map with four holds the classes, where no operator behind it says so."""

from __future__ import annotations

from segedge.card.axes import shape_text
from segedge.card.geometry import Size
from segedge.convert.passes.extent import fits, in_front_of
from segedge.errors import ExportError
from segedge.graph.kit import Value, attribute, constant

_CHANNELS_FIRST = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "DepthToSpace",
    "InstanceNormalization", "GlobalAveragePool", "QLinearConv",
)  # fmt: skip
_KEEPING = (
    "Identity", "Cast", "Add", "Sub", "Mul", "Div", "Neg", "Sigmoid", "HardSigmoid", "Relu", "Clip",
    "Tanh", "Exp", "Log", "Sqrt", "Pow", "Max", "Min", "QuantizeLinear", "DequantizeLinear",
    "Softmax", "LogSoftmax",
)  # fmt: skip
"""What leaves every axis where it is."""


def class_axis(value: Value, shape: tuple[int, ...], network: Size, channels: int | None) -> int:
    """1 (NCHW) or 3 (NHWC).

    The number of named classes (``channels``) decides, else the operators, else the shape of the
    input. ExportError: none of them does.
    """
    planes = {1: shape[2:4], 3: shape[1:3]}
    named = [axis for axis in planes if shape[axis] == channels]
    if len(named) == 1:
        return named[0]
    by_operators = _by_operators(value)
    if by_operators is not None:
        return by_operators
    fitting = [axis for axis, plane in planes.items() if fits(plane, network)]
    exact = [axis for axis in fitting if _divides(planes[axis], network)]
    fitting = exact if len(exact) == 1 else fitting
    if len(fitting) == 1 or shape[1] == shape[3]:
        return fitting[0] if fitting else 1
    raise ExportError(
        "it is not clear which axis of the output holds the classes",
        facts={
            "found": f"{value.name} {shape_text(shape)} for an input of {network}",
            "either": f"{shape[1]} classes on {shape[2]}x{shape[3]}, "
            f"or {shape[3]} classes on {shape[1]}x{shape[2]}",
        },
        fix="name the classes, which counts them: --classes NAME,NAME,...",
    )


def _divides(plane: tuple[int, ...], network: Size) -> bool:
    """Whether rows and columns are the network's at one whole stride."""
    stride = network.height // plane[0]
    return (network.height, network.width) == (plane[0] * stride, plane[1] * stride)


def _by_operators(value: Value) -> int | None:
    """By the first operator on the way back that knows where channels are."""
    moved = False
    while (node := value.producer()) is not None:
        op = node.op_type
        if op in _CHANNELS_FIRST:
            return 3 if moved else 1
        if op == "MatMul" and not moved:
            return 3 if constant(node.inputs[1]) is not None else None
        if op == "Transpose":
            if moved or tuple(attribute(node, "perm", None) or ()) != (0, 2, 3, 1):
                return None
            moved = True
        elif op == "Reshape" and (before := in_front_of(node)) is not None:
            value = before
            continue
        elif not (op == "Resize" and not moved) and op not in _KEEPING:
            return None  # behind a Resize channels are where they were in front
        computed = [each for each in node.inputs if each is not None and constant(each) is None]
        if not computed:
            return None
        value = computed[0]
    return None
