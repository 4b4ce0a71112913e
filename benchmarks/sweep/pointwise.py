"""Activations, normalisation, reductions, products: what does not look at neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper

from sweep.case import IMAGE, RESULT, SHAPE, Case, one, weights

CHANNELS, WIDTH = SHAPE[1], SHAPE[3]


def cases() -> Iterator[Case]:
    """All of them."""
    for family in (_activations, _unary, _binary, _softmax, _norms, _reductions, _choices,
                   _products, _attention, _quantized, _casts):  # fmt: skip
        yield from family()


def _activations() -> Iterator[Case]:
    slopes = np.array([0.1, 0.3, -0.2, 0.5], np.float32)
    yield one("Relu", torch=F.relu)
    for alpha in (None, 0.1):
        yield one(
            "LeakyRelu", {"alpha": alpha}, torch=partial(F.leaky_relu, negative_slope=alpha or 0.01)
        )
        yield one("Elu", {"alpha": alpha}, torch=partial(F.elu, alpha=alpha or 1.0))
        yield one("Celu", {"alpha": alpha}, torch=partial(F.celu, alpha=alpha or 1.0))
        yield one("ThresholdedRelu", {"alpha": alpha})
    for shape in ((1,), (4, 1, 1), (1, 4, 1, 1), (4, 12, 17)):
        slope = np.resize(slopes, int(np.prod(shape))).reshape(shape)
        yield one("PRelu", {}, slope, words=f"slopes of {'x'.join(map(str, shape))}")
    for way in ("none", "tanh"):
        yield one("Gelu", {"approximate": way}, torch=partial(F.gelu, approximate=way))
    yield one("HardSigmoid")
    yield one("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, torch=F.hardsigmoid)
    yield one("HardSwish", torch=F.hardswish)
    yield one("Mish", torch=F.mish)
    yield one("Selu", torch=F.selu)
    yield one("Softplus", torch=F.softplus)
    yield one("Softsign", torch=F.softsign)
    yield one("Sigmoid", torch=torch.sigmoid)
    yield one("Tanh", torch=torch.tanh)
    yield one("Shrink", {"lambd": 0.5, "bias": 0.1})
    for low, high in ((0.0, 6.0), (None, 0.5), (-0.5, None), (0.5, -0.5)):
        ends = [None if v is None else np.array(v, np.float32) for v in (low, high)]
        yield one("Clip", {}, *ends, words=f"{low} to {high}")
    two = helper.make_node("Sigmoid", [IMAGE], ["gate"], name="gate")
    silu = helper.make_node("Mul", [IMAGE, "gate"], [RESULT], name="silu")
    yield Case("Mul", "x sigmoid(x)", (two, silu), torch=F.silu)


def _unary() -> Iterator[Case]:
    ways: dict[str, Any] = {
        "Abs": torch.abs, "Neg": torch.neg, "Exp": torch.exp, "Erf": torch.erf, "Sin": torch.sin,
        "Cos": torch.cos, "Sign": torch.sign, "Ceil": torch.ceil, "Floor": torch.floor,
    }  # fmt: skip
    for operator, way in ways.items():
        yield one(operator, torch=way)
    for operator, way in (
        ("Sqrt", torch.sqrt),
        ("Log", torch.log),
        ("Reciprocal", torch.reciprocal),
    ):
        yield one(operator, torch=way, positive=True)
    double = helper.make_node("Mul", [IMAGE, "four"], ["quarters"], name="quarters")
    whole = helper.make_node("Floor", ["quarters"], ["whole"], name="whole")
    half = helper.make_node("Mul", ["whole", "half"], ["halves"], name="halves")
    around = helper.make_node("Round", ["halves"], [RESULT], name="case")
    constants = {"four": np.array(4, np.float32), "half": np.array(0.5, np.float32)}
    yield Case("Round", "of halves, to even", (double, whole, half, around), constants,
               torch=lambda x: torch.round(torch.floor(4 * x) * 0.5))  # fmt: skip


def _binary() -> Iterator[Case]:
    shapes = ((), (4, 1, 1), (1, 4, 1, 1), (17,), (12, 1), (1, 4, 12, 17))
    ways: dict[str, Any] = {
        "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div,
        "Max": torch.maximum, "Min": torch.minimum,
    }  # fmt: skip
    for (operator, way), shape in product(ways.items(), shapes):
        other = weights(*shape, seed=5) + np.float32(0.3)
        yield one(
            operator, {}, other, words=f"with {'x'.join(map(str, shape)) or 'a number'}",
            torch=lambda x, w=way, o=other: w(x, torch.as_tensor(o)),
        )  # fmt: skip
    for power in (2.0, 0.5, 3.0, -1.0):
        yield one("Pow", {}, np.array(power, np.float32), words=f"to {power:g}", positive=True,
                  torch=lambda x, p=power: torch.pow(x, p))  # fmt: skip
    yield one("Pow", {}, np.array(2.0, np.float32), words="to 2, of negative numbers")
    yield one("Mod", {"fmod": 1}, np.array(0.7, np.float32), torch=lambda x: torch.fmod(x, 0.7))
    for operator in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"):
        compare = helper.make_node(operator, [IMAGE, "zero"], ["which"], name="which")
        choose = helper.make_node("Where", ["which", IMAGE, "other"], [RESULT], name="case")
        constants = {"zero": np.array(0, np.float32), "other": np.array(2, np.float32)}
        yield Case("Where", operator, (compare, choose), constants)


def _softmax() -> Iterator[Case]:
    for axis, opset in product((1, -1, 2), (11, 20)):
        for operator, way in (("Softmax", F.softmax), ("LogSoftmax", F.log_softmax)):
            yield one(
                operator, {"axis": axis}, words=f"axis {axis} (opset {opset})", opset=opset,
                torch=partial(way, dim=axis) if opset > 12 else None,
            )  # fmt: skip
        yield one("Hardmax", {"axis": axis}, words=f"axis {axis} (opset {opset})", opset=opset)


def _norms() -> Iterator[Case]:
    scale, bias, mean = (weights(CHANNELS, 1, seed=s)[:, 0] for s in (1, 2, 3))
    variance = np.abs(weights(CHANNELS, 1, seed=4)[:, 0]) + np.float32(0.1)
    for epsilon in (1e-5, 1e-3):
        yield one(
            "BatchNormalization", {"epsilon": epsilon}, scale, bias, mean, variance,
            torch=lambda x, e=epsilon: F.batch_norm(
                x, *map(torch.from_numpy, (mean, variance, scale, bias)), eps=e
            ),
        )  # fmt: skip
        yield one(
            "InstanceNormalization", {"epsilon": epsilon}, scale, bias,
            torch=lambda x, e=epsilon: F.instance_norm(
                x, weight=torch.from_numpy(scale), bias=torch.from_numpy(bias), eps=e
            ),
        )  # fmt: skip
    for groups in (1, 2, 4):
        yield one(
            "GroupNormalization", {"num_groups": groups}, scale, bias, opset=21,
            torch=lambda x, g=groups: F.group_norm(x, g, *map(torch.from_numpy, (scale, bias))),
        )  # fmt: skip
    for axis in (-1, 1, 2):
        shape = SHAPE[axis:]
        gain, shift = weights(1, *shape, seed=5)[0] + np.float32(1), weights(1, *shape, seed=6)[0]
        yield one(
            "LayerNormalization", {"axis": axis}, gain, shift,
            torch=lambda x, s=shape, g=gain, b=shift: F.layer_norm(
                x, s, torch.from_numpy(g), torch.from_numpy(b)
            ),
        )  # fmt: skip
        yield one(
            "RMSNormalization", {"axis": axis}, gain, opset=23,
            torch=lambda x, s=shape, g=gain: F.rms_norm(x, s, torch.from_numpy(g), eps=1e-5),
        )  # fmt: skip
    for p, axis in product((1, 2), (1, -1)):
        yield one("LpNormalization", {"p": p, "axis": axis})
    for size in (3, 4):
        yield one("LRN", {"size": size, "alpha": 0.5, "beta": 0.75, "bias": 1.0},
                  torch=lambda x, n=size: F.local_response_norm(x, n, 0.5))  # fmt: skip
    yield one("MeanVarianceNormalization")
    yield one("MeanVarianceNormalization", {"axes": [2, 3]})


def _reductions() -> Iterator[Case]:
    operators = (
        "Mean",
        "Max",
        "Min",
        "Sum",
        "L1",
        "L2",
        "LogSumExp",
        "Prod",
        "SumSquare",
        "LogSum",
    )
    for name, axes, keep in product(operators, ((2, 3), (1,), (-1,), None), (0, 1)):
        given = None if axes is None else np.array(axes, np.int64)
        yield one(
            f"Reduce{name}", {"keepdims": keep}, given, positive=name.startswith("Log"),
            words=f"axes {axes or 'all'}, keepdims {keep}",
        )  # fmt: skip
    yield one(
        "ReduceMean", {"noop_with_empty_axes": 1}, np.zeros(0, np.int64), words="no axes, noop"
    )


def _choices() -> Iterator[Case]:
    """ArgMax and TopK, of whole numbers so that there are ties."""
    cast = helper.make_node("Cast", ["chosen"], [RESULT], to=1, name="cast")
    whole = helper.make_node("Round", [IMAGE], ["whole"], name="whole")
    for operator, axis, keep, last in product(("ArgMax", "ArgMin"), (1, -1), (0, 1), (0, 1)):
        chosen = helper.make_node(
            operator, ["whole"], ["chosen"], axis=axis, keepdims=keep, select_last_index=last,
            name="case",
        )  # fmt: skip
        words = f"axis {axis}, keepdims {keep}, select_last_index {last}, with ties"
        yield Case(operator, words, (whole, chosen, cast))
    for axis, largest in product((1, -1), (0, 1)):
        for output, names in (("values", [RESULT, "p"]), ("places", ["v", "chosen"])):
            top = helper.make_node(
                "TopK", [IMAGE, "k"], names, axis=axis, largest=largest, sorted=1, name="case"
            )
            nodes = (top,) if output == "values" else (top, cast)
            words = f"axis {axis}, largest {largest}, {output}"
            yield Case("TopK", words, nodes, {"k": np.array([2], np.int64)})


def _products() -> Iterator[Case]:
    for shape in ((WIDTH, 5), (4, WIDTH, 5), (1, 1, WIDTH, 5), (WIDTH,)):
        right = weights(*shape, seed=2)
        yield one("MatMul", {}, right, words=f"with {'x'.join(map(str, shape))}",
                  torch=lambda x, r=right: torch.matmul(x, torch.from_numpy(r)))  # fmt: skip
    flat = helper.make_node("Reshape", [IMAGE, "two"], ["rows"], name="rows")
    for left, right, alpha in product((0, 1), (0, 1), (1.0, 0.5)):
        inner, outer = (48, 17) if left else (17, 48)
        other = weights(5, inner) if right else weights(inner, 5)
        gemm = helper.make_node(
            "Gemm", ["rows", "b", "c"], [RESULT], transA=left, transB=right, alpha=alpha, beta=2.0,
            name="case",
        )  # fmt: skip
        constants = {"two": np.array([48, 17]), "b": other, "c": weights(outer, 5, seed=8)}
        words = f"transA {left}, transB {right}, alpha {alpha:g}, beta 2"
        yield Case("Gemm", words, (flat, gemm), constants)
    equations = {
        "nchw,cd->ndhw": (4, 3), "nchw,nkhw->nck": (1, 3, 12, 17), "nchw,qc->nqhw": (5, 4),
        "nchw,nchw->nhw": SHAPE, "...hw,wv->...hv": (17, 2),
    }  # fmt: skip
    for equation, shape in equations.items():
        other = weights(*shape, seed=2)
        einsum = helper.make_node("Einsum", [IMAGE, "b"], [RESULT], equation=equation, name="case")
        yield Case(
            "Einsum", equation, (einsum,), {"b": other},
            torch=lambda x, e=equation, o=other: torch.einsum(e, x, torch.from_numpy(o)),
        )  # fmt: skip


def _attention() -> Iterator[Case]:
    keys, values = weights(1, 4, 9, 17, seed=2), weights(1, 4, 9, 17, seed=3)
    for scale, causal in product((None, 0.3), (0, 1)):
        attributes = {"scale": scale, "is_causal": causal}
        yield one(
            "Attention", attributes, keys, values, opset=23,
            torch=lambda x, s=scale, c=causal: F.scaled_dot_product_attention(
                x, torch.from_numpy(keys), torch.from_numpy(values), scale=s, is_causal=bool(c)
            ),
        )  # fmt: skip


def _quantized() -> Iterator[Case]:
    for kind, zero in ((np.int8, 0), (np.uint8, 128), (np.uint8, 3), (np.int8, -5)):
        point = np.array(zero, kind)
        constants = {"s": np.array(0.02, np.float32), "z": point}
        nodes = (
            helper.make_node("QuantizeLinear", [IMAGE, "s", "z"], ["q"], name="q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], [RESULT], name="dq"),
        )
        yield Case(
            "QuantizeLinear", f"{np.dtype(kind)}, zero point {zero}, and back", nodes, constants
        )
    scales = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    nodes = (
        helper.make_node("QuantizeLinear", [IMAGE, "s", "z"], ["q"], axis=1, name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], [RESULT], axis=1, name="dq"),
    )
    yield Case(
        "QuantizeLinear",
        "int8, a channel, and back",
        nodes,
        {"s": scales, "z": np.zeros(4, np.int8)},
    )


def _casts() -> Iterator[Case]:
    three = helper.make_node("Mul", [IMAGE, "c"], ["wide"], name="wide")
    for number, name in (
        (6, "int32"),
        (7, "int64"),
        (10, "float16"),
        (16, "bfloat16"),
        (9, "bool"),
    ):
        there = helper.make_node("Cast", ["wide"], ["there"], to=number, name="case")
        back = helper.make_node("Cast", ["there"], [RESULT], to=1, name="back")
        yield Case("Cast", f"{name} and back", (three, there, back), {"c": np.array(3, np.float32)})
    for number, name in ((2, "uint8"), (3, "int8")):
        there = helper.make_node("Cast", [IMAGE], ["there"], to=number, name="case")
        back = helper.make_node("Cast", ["there"], [RESULT], to=1, name="back")
        yield Case("Cast", f"{name} and back", (there, back), positive=True)
