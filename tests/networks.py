"""A zoo of tiny networks, each with the typical operators of a family, for tests that need graphs.

They are written after the papers, with a handful of channels and random weights: what counts is
that a converter, parser or builder that takes these takes the real ones.

    path = export_tiny("pidnet_s")                      # ONNX, 1x3x128x256, exported once
    path = export_tiny("pidnet_s", dynamic="size")      # height and width dynamic
    images = smooth_images(2, *size_of("pidnet_s"))     # what to run it on
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tests import networks_classic as classic
from tests import networks_realtime as realtime
from tests.built import built
from tests.fast_export import hasten_exports

CLASSES = realtime.CLASSES
HEIGHT, WIDTH = 128, 256

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tutorial_cnn": classic.TutorialCnn,
    "unet": classic.UNet,
    "deeplab": classic.DeepLab,
    "norms": classic.GroupNormNet,
    "segformer": classic.SegFormer,
    "fast_scnn": realtime.FastScnn,
    "bisenetv2": realtime.BiSeNet,
    "ddrnet23_slim": realtime.DdrNet,
    "pidnet_s": realtime.PidNet,
    "pidnet_s_corners": functools.partial(realtime.PidNet, corners=True),
}
"""Name to constructor. Every network takes Nx3xHxW and gives NxCLASSESxHxW logits."""

STATIC_ONLY = {
    "fast_scnn": "its adaptive pools with k > 1 exist for the traced size only",
}
"""Networks that have no dynamic size, with the reason."""

Dynamic = Literal["size", "batch"]


def size_of(name: str) -> tuple[int, int]:
    """Height and width that a network is exported with; the wide one is exported small."""
    return (16, 32) if name == "tutorial_cnn" else (HEIGHT, WIDTH)


@functools.cache
def build(name: str) -> nn.Module:
    """A network with seeded weights and with norms that have seen images, in eval mode."""
    torch.manual_seed(sum(map(ord, name)))
    network = NETWORKS[name]().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average, so that four batches are enough
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    with torch.no_grad():
        for seed in range(4):
            network(torch.from_numpy(smooth_images(4, *size_of(name), seed=seed)))
    return network.eval()


def smooth_images(count: int, height: int, width: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random blobs at two scales, about normal: Nx3xHxW. White noise has no regions to label."""
    rng = np.random.default_rng(seed)
    planes = []
    for _ in range(count * 3):
        coarse = rng.standard_normal((4, 8)).astype(np.float32)
        fine = rng.standard_normal((height // 4, width // 4)).astype(np.float32)
        planes.append(
            sum(cv2.resize(p, (width, height)) * s for p, s in ((coarse, 1.2), (fine, 0.4)))
        )
    return np.stack(planes).reshape(count, 3, height, width).astype(np.float32)


def export_tiny(name: str, *, dynamic: Dynamic | None = None) -> Path:
    """Export a network of the zoo; ``dynamic`` says which axes may vary, if any.

    Returns ``<name>[_<dynamic>].onnx``, not to be changed: input ``image``, output ``logits``.
    """
    sources = [Path(module.__file__).read_text() for module in (classic, realtime)]
    versions = [version(library) for library in ("torch", "onnx", "onnxscript")]
    return built(
        f"{name}{f'_{dynamic}' if dynamic else ''}.onnx",
        lambda path: _export(name, path, dynamic),
        key=[*sources, Path(__file__).read_text(), *versions, name, dynamic],
    )


def _export(name: str, path: Path, dynamic: Dynamic | None) -> None:
    """Static sizes and batches by today's exporter; dynamic sizes by the older one.

    The older one is five times faster there, and its dialect (opset 18, chains of Shape, Gather
    and Concat, norms that are not folded) is that of the ONNX files that people adopt.
    """
    example = torch.from_numpy(smooth_images(2 if dynamic == "batch" else 1, *size_of(name)))
    options: dict[str, Any] = {"dynamo": True, "opset_version": 20, "external_data": False}
    if dynamic == "batch":
        options["dynamic_shapes"] = ({0: "batch"},)
    if dynamic == "size":
        axes = {2: "height", 3: "width"}
        options = {"dynamo": False, "opset_version": 18}
        options["dynamic_axes"] = {"image": axes, "logits": axes}
    hasten_exports()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            build(name),
            (example,),
            str(path),
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            **options,
        )


def deformable() -> onnx.ModelProto:
    """A convolution and a DeformConv (DCNv2), which no TensorRT parses."""
    rng = np.random.default_rng(0)
    weights = {"w0": (8, 3, 3, 3), "w1": (18, 8, 3, 3), "w2": (CLASSES, 8, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["x"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "w1"], ["offset"], name="offsets", pads=[1, 1, 1, 1]),
        helper.make_node(
            "DeformConv", ["x", "w2", "offset"], ["logits"], name="deform", pads=[1, 1, 1, 1]
        ),
    ]
    arrays = {k: rng.normal(0, 0.1, shape).astype(np.float32) for k, shape in weights.items()}
    value = functools.partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "deformable",
        [value("image", shape=[1, 3, 32, 64])],
        [value("logits", shape=[1, CLASSES, 32, 64])],
        [numpy_helper.from_array(array, key) for key, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
