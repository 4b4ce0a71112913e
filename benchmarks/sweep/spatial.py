"""Convolutions, pools, Resize, Pad, GridSample: what looks at neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper

from sweep.case import IMAGE, RESULT, SHAPE, Case, Torch, one, weights

CHANNELS = SHAPE[1]


def cases() -> Iterator[Case]:
    """All of them."""
    for family in (_conv, _transposed, _average, _maximum, _whole, _resize, _resize_kept,
                   _upsample, _pad, _grid, _deform, _unpool, _roi):  # fmt: skip
        yield from family()


def _conv() -> Iterator[Case]:
    kernels, strides, dilations = ((1, 1), (3, 3), (1, 7), (4, 4)), (1, 2, 3), (1, 2)
    pads = ("none", "same", "one side", "SAME_UPPER", "SAME_LOWER", "VALID")
    for kernel, stride, dilation, groups, pad in product(
        kernels, strides, dilations, (1, 2, 4), pads
    ):
        if kernel == (1, 1) and (dilation > 1 or pad != "none"):
            continue
        if pad.startswith("SAME") and dilation > 1 and stride > 1:
            continue  # ONNX Runtime and torch refuse or define it otherwise
        filters = weights(8, CHANNELS // groups, *kernel)
        sides = _sides(pad, kernel, dilation)
        attributes = {
            "kernel_shape": list(kernel), "strides": [stride] * 2, "dilations": [dilation] * 2,
            "group": groups, "pads": sides, "auto_pad": pad if pad.isupper() else None,
        }  # fmt: skip
        words = f"{kernel[0]}x{kernel[1]}, stride {stride}, dilation {dilation}, groups {groups}"
        yield one(
            "Conv", attributes, filters, weights(8, 1)[:, 0], words=f"{words}, pads {pad}",
            torch=_torch_conv(filters, sides, stride, dilation, groups) if sides else None,
        )  # fmt: skip


def _sides(pad: str, kernel: tuple[int, int], dilation: int) -> list[int] | None:
    reach = [(k - 1) * dilation // 2 for k in kernel]
    return {
        "none": [0, 0, 0, 0],
        "same": [*reach, *reach],
        "one side": [0, 0, 2 * reach[0], 2 * reach[1]],
    }.get(pad)


def _torch_conv(filters: Any, sides: list[int], stride: int, dilation: int, groups: int) -> Torch:
    top, left, bottom, right = sides
    kernel, bias = torch.from_numpy(filters), torch.from_numpy(weights(8, 1)[:, 0])

    def run(image: Any) -> Any:
        padded = F.pad(image, (left, right, top, bottom))
        return F.conv2d(padded, kernel, bias, stride, 0, dilation, groups)

    return run


def _transposed() -> Iterator[Case]:
    for kernel, stride, dilation, pad, extra, groups in product(
        (2, 3, 4), (1, 2), (1, 2), (0, 1), (0, 1), (1, 2, 4)
    ):
        if extra >= max(stride, dilation):
            continue
        filters = weights(CHANNELS, 4 // groups * 2, kernel, kernel)
        attributes = {
            "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2,
            "pads": [pad] * 4, "output_padding": [extra] * 2, "group": groups,
        }  # fmt: skip
        yield one(
            "ConvTranspose", attributes, filters,
            words=f"{kernel}x{kernel}, stride {stride}, dilation {dilation}, pads {pad}, "
            f"output_padding {extra}, groups {groups}",
            torch=lambda x, w=filters, s=stride, p=pad, e=extra, g=groups, d=dilation: (
                F.conv_transpose2d(x, torch.from_numpy(w), None, s, p, e, g, d)
            ),
        )  # fmt: skip
    for automatic, stride in product(("SAME_UPPER", "SAME_LOWER", "VALID"), (1, 2)):
        attributes = {"kernel_shape": [3, 3], "strides": [stride] * 2, "auto_pad": automatic}
        yield one("ConvTranspose", attributes, weights(CHANNELS, 8, 3, 3))
    shaped = {"kernel_shape": [3, 3], "strides": [2, 2]}
    yield one("ConvTranspose", {**shaped, "output_shape": [24, 34]}, weights(CHANNELS, 8, 3, 3))
    yield one("ConvTranspose", {**shaped, "pads": [0, 0, 1, 1]}, weights(CHANNELS, 8, 3, 3))


def _average() -> Iterator[Case]:
    for kernel, stride, pad, ceil, counted in product(
        (2, 3, 5), (1, 2, 3), (0, 1, 2), (0, 1), (0, 1)
    ):
        if pad > kernel // 2:
            continue
        attributes = {
            "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4,
            "ceil_mode": ceil, "count_include_pad": counted,
        }  # fmt: skip
        yield one(
            "AveragePool", attributes,
            words=f"{kernel}x{kernel}, stride {stride}, pads {pad}, ceil_mode {ceil}, "
            f"count_include_pad {counted}",
            torch=lambda x, k=kernel, s=stride, p=pad, c=ceil, i=counted: (
                F.avg_pool2d(x, k, s, p, bool(c), bool(i))
            ),
        )  # fmt: skip
    for sides, ceil, counted in product(([0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 2, 2]), (0, 1), (0, 1)):
        attributes = {
            "kernel_shape": [3, 3], "strides": [2, 2], "pads": sides,
            "ceil_mode": ceil, "count_include_pad": counted,
        }  # fmt: skip
        yield one("AveragePool", attributes)
    for automatic, stride, counted in product(("SAME_UPPER", "SAME_LOWER"), (1, 2), (0, 1)):
        attributes = {
            "kernel_shape": [3, 3], "strides": [stride] * 2, "auto_pad": automatic,
            "count_include_pad": counted,
        }  # fmt: skip
        yield one("AveragePool", attributes)
    for ceil, counted in product((0, 1), (0, 1)):
        attributes = {
            "kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "dilations": [2, 2],
            "ceil_mode": ceil, "count_include_pad": counted,
        }  # fmt: skip
        yield one("AveragePool", attributes)


def _maximum() -> Iterator[Case]:
    for kernel, stride, pad, dilation, ceil in product(
        (2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2), (0, 1)
    ):
        if pad > kernel // 2:
            continue
        attributes = {
            "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4,
            "dilations": [dilation] * 2, "ceil_mode": ceil,
        }  # fmt: skip
        yield one(
            "MaxPool", attributes,
            words=f"{kernel}x{kernel}, stride {stride}, pads {pad}, dilation {dilation}, "
            f"ceil_mode {ceil}",
            torch=lambda x, k=kernel, s=stride, p=pad, d=dilation, c=ceil: (
                F.max_pool2d(x, k, s, p, d, bool(c))
            ),
        )  # fmt: skip
    for automatic, stride in product(("SAME_UPPER", "SAME_LOWER", "VALID"), (1, 2)):
        yield one(
            "MaxPool", {"kernel_shape": [3, 3], "strides": [stride] * 2, "auto_pad": automatic}
        )
    for ceil in (0, 1):
        sides = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": ceil}
        yield one("MaxPool", sides)
        yield one("LpPool", {"kernel_shape": [3, 3], "strides": [2, 2], "p": 2, "ceil_mode": ceil})


def _whole() -> Iterator[Case]:
    yield one("GlobalAveragePool", torch=lambda x: F.adaptive_avg_pool2d(x, 1))
    yield one("GlobalMaxPool", torch=lambda x: F.adaptive_max_pool2d(x, 1))
    yield one("GlobalLpPool", {"p": 2})


_COORDINATES = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric",
    "tf_crop_and_resize",
)  # fmt: skip
_SCALES = {"x2": (2.0, 2.0), "x0.5": (0.5, 0.5), "x1.7": (1.7, 1.7), "x0.6": (0.6, 0.6)}


def _resize() -> Iterator[Case]:
    for mode, coordinates, (said, scale) in product(
        ("nearest", "linear", "cubic"), _COORDINATES, _SCALES.items()
    ):
        for extra in _resize_extras(mode, scale):
            attributes = {
                "mode": mode, "coordinate_transformation_mode": coordinates, **extra
            }  # fmt: skip
            words = ", ".join([mode, coordinates, said, *(f"{k} {v}" for k, v in extra.items())])
            cropped = coordinates == "tf_crop_and_resize"
            roi = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], np.float32) if cropped else None
            scales = np.array([1, 1, *scale], np.float32)
            yield one(
                "Resize", attributes, roi, scales, words=words,
                torch=_torch_resize(mode, coordinates, scale, extra),
            )  # fmt: skip
    for mode, coordinates in product(("nearest", "linear", "cubic"), _COORDINATES[:4]):
        sizes = np.array([*SHAPE[:2], 7, 29], np.int64)
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
        yield one(
            "Resize", attributes, None, None, sizes, words=f"{mode}, {coordinates}, to 7x29",
            torch=_torch_resize(mode, coordinates, None, {}, (7, 29)),
        )  # fmt: skip


def _resize_extras(mode: str, scale: tuple[float, float]) -> list[dict[str, Any]]:
    if mode == "nearest":
        roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        return [{"nearest_mode": rounding} for rounding in roundings]
    extras: list[dict[str, Any]] = [{}]
    if mode == "cubic":
        extras += [{"cubic_coeff_a": -0.5}]
    inside = [{**extra, "exclude_outside": 1} for extra in extras]
    wide = [{"antialias": 1, **extra} for extra in (*extras, *inside)] if scale[0] < 1 else []
    # ONNX Runtime takes exclude_outside where there is more than the two pixels of a linear one.
    return extras + (inside if mode == "cubic" else []) + wide


def _torch_resize(
    mode: str, coordinates: str, scale: tuple[float, float] | None, extra: dict[str, Any],
    size: tuple[int, int] | None = None,
) -> Torch | None:  # fmt: skip
    antialias, coefficient = bool(extra.get("antialias")), extra.get("cubic_coeff_a", -0.75)
    given = {"size": size} if size else {"scale_factor": scale, "recompute_scale_factor": False}
    if mode == "nearest":
        way = {
            ("asymmetric", "floor"): "nearest",
            ("half_pixel", "round_prefer_ceil"): "nearest-exact",
        }.get((coordinates, extra.get("nearest_mode", "round_prefer_floor")))
        return None if way is None else lambda x: F.interpolate(x, mode=way, **given)
    corners = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
    # Where it antialiases torch leaves out what lies outside, and has another cubic.
    if coordinates not in corners or (antialias and coordinates == "align_corners"):
        return None
    if extra.get("exclude_outside", 0) != antialias:
        return None
    if mode == "cubic" and coefficient != (-0.5 if antialias else -0.75):
        return None
    way = "bilinear" if mode == "linear" else "bicubic"
    return lambda x: F.interpolate(
        x, mode=way, align_corners=corners[coordinates], antialias=antialias, **given
    )


def _resize_kept() -> Iterator[Case]:
    for policy, mode in product(("not_larger", "not_smaller"), ("nearest", "linear")):
        attributes = {"mode": mode, "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
        yield one("Resize", attributes, None, None, np.array([9, 30], np.int64))
    for mode in ("nearest", "linear", "cubic"):
        scales = np.array([2, 2], np.float32)
        yield one("Resize", {"mode": mode, "axes": [2, 3]}, None, scales, words=f"{mode}, axes 2x3")
        scales = np.array([1, 2, 2, 1], np.float32)
        yield one("Resize", {"mode": mode}, None, scales, words=f"{mode}, axes 1 and 2 (NHWC)")
    outside = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    roi = np.array([0, 0, -0.2, 0.2, 1, 1, 1.2, 0.9], np.float32)
    scales = np.array([1, 1, 2, 2], np.float32)
    yield one(
        "Resize", {**outside, "extrapolation_value": 3.0}, roi, scales,
        words="linear, tf_crop_and_resize, beyond the image",
    )  # fmt: skip


def _upsample() -> Iterator[Case]:
    for mode, (said, scale) in product(("nearest", "linear"), (("x2", 2.0), ("x1.7", 1.7))):
        scales = np.array([1, 1, scale, scale], np.float32)
        yield one("Upsample", {"mode": mode}, scales, words=f"{mode}, {said} (opset 9)", opset=9)


def _pad() -> Iterator[Case]:
    ways = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    for (mode, way), sides in product(ways.items(), ([1, 2, 1, 2], [0, 0, 3, 1], [2, 0, 0, 3])):
        top, left, bottom, right = sides
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        yield one(
            "Pad", {"mode": mode}, pads, words=f"{mode}, {'x'.join(map(str, sides))}",
            torch=lambda x, p=(left, right, top, bottom), w=way: F.pad(x, p, w),
        )  # fmt: skip
    value = np.array(0.5, np.float32)
    yield one(
        "Pad", {"mode": "constant"}, np.array([0, 0, 1, 1, 0, 0, 1, 1]), value, words="value 0.5"
    )
    yield one("Pad", {}, np.array([0, 0, -1, -2, 0, 0, -1, 3]), words="constant, negative")
    yield one("Pad", {"mode": "edge"}, np.array([0, 0, -1, 2, 0, 0, 2, -1]), words="edge, negative")
    yield one("Pad", {}, np.array([1, 2, 3, 1]), None, np.array([2, 3]), words="constant, axes 2x3")
    yield one("Pad", {}, np.array([0, 1, 0, 0, 0, 3, 0, 0]), words="constant, channels")


def _grid() -> Iterator[Case]:
    rows, columns = np.meshgrid(
        np.linspace(-1.3, 1.2, 9), np.linspace(-1.1, 1.4, 11), indexing="ij"
    )
    grid = np.stack([columns + 0.1 * rows, rows - 0.2 * columns], -1)[None].astype(np.float32)
    names = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}
    for (mode, way), outside, corners in product(
        names.items(), ("zeros", "border", "reflection"), (0, 1)
    ):
        for opset, said in ((20, mode), (16, way)):
            attributes = {"mode": said, "padding_mode": outside, "align_corners": corners}
            yield one(
                "GridSample", attributes, grid, opset=opset,
                words=f"{said}, {outside}, align_corners {corners} (opset {opset})",
                torch=lambda x, m=way, p=outside, c=corners: F.grid_sample(
                    x, torch.from_numpy(grid), mode=m, padding_mode=p, align_corners=bool(c)
                ),
            )  # fmt: skip


def _deform() -> Iterator[Case]:
    offset = weights(1, 18, 12, 17, seed=3) * 6
    for masked in (False, True):
        mask = np.abs(weights(1, 9, 12, 17, seed=4)) if masked else None
        attributes = {"kernel_shape": [3, 3], "pads": [1] * 4}
        yield one(
            "DeformConv", attributes, weights(8, CHANNELS, 3, 3), offset, None, mask,
            words="3x3" + ", mask" * masked,
        )  # fmt: skip


def _unpool() -> Iterator[Case]:
    pool = helper.make_node(
        "MaxPool", [IMAGE], ["pooled", "places"], kernel_shape=[2, 2], strides=[2, 2], name="pool"
    )
    back = helper.make_node(
        "MaxUnpool",
        ["pooled", "places"],
        [RESULT],
        kernel_shape=[2, 2],
        strides=[2, 2],
        name="back",
    )

    def run(image: Any) -> Any:
        pooled, places = F.max_pool2d(image, 2, 2, return_indices=True)
        return F.max_unpool2d(pooled, places, 2, 2)

    yield Case("MaxUnpool", "2x2 behind MaxPool", (pool, back), shape=(1, 4, 12, 16), torch=run)
    cast = helper.make_node("Cast", ["places"], [RESULT], to=1, name="cast")
    yield Case("MaxPool", "2x2, its places", (pool, cast), shape=(1, 4, 12, 16))


def _roi() -> Iterator[Case]:
    boxes = np.array([[0, 0, 8, 6], [2.5, 1.5, 12, 11]], np.float32)
    for mode, coordinates in product(("avg", "max"), ("half_pixel", "output_half_pixel")):
        attributes = {
            "mode": mode, "coordinate_transformation_mode": coordinates,
            "output_height": 4, "output_width": 4, "sampling_ratio": 2,
        }  # fmt: skip
        yield one(
            "RoiAlign", attributes, boxes, np.zeros(2, np.int64), words=f"{mode}, {coordinates}"
        )
