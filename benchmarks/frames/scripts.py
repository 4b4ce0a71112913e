"""What users write instead, each as its library's documentation says.

Around the network all of them do the same: cv2.resize and NumPy before, palette indexing and
cv2.addWeighted after. Two forms of each: labels enlarged to the frame by nearest neighbour, which
is quick and blocky; and ``smooth``, the logits enlarged to the frame bilinearly and then argmax,
which gives the pixels that segedge gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from harness import Stopwatch
from numpy.typing import NDArray

from frames.scenes import Scene, torch_module
from frames.way import Image, Picture, Step, Way, segedge_way
from segedge.card.geometry import Size

MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)

Network = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Input tensor to logits 1 x C x H x W, or to labels 1 x H x W."""


def preprocess_usual(image: Image, size: Size) -> NDArray[np.float32]:
    """Resize, swap, scale, normalise, transpose: as examples do it."""
    resized = cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    rgb = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB).astype(np.float32) / 255.0
    return np.ascontiguousarray(((rgb - MEAN) / STD).transpose(2, 0, 1)[None])


def labels_nearest(output: NDArray[Any], frame: Size) -> NDArray[np.uint8]:
    """Argmax where it is not done, then labels up to the frame by nearest neighbour."""
    labels = output if output.ndim == 3 else output.argmax(axis=1)
    small = labels[0].astype(np.uint8)
    return cv2.resize(small, (frame.width, frame.height), interpolation=cv2.INTER_NEAREST)


def labels_smooth(output: NDArray[Any], frame: Size) -> NDArray[np.uint8]:
    """Every class up to the frame bilinearly, then argmax; labels are done already."""
    if output.ndim == 3:
        return output[0].astype(np.uint8)
    size = (frame.width, frame.height)
    planes = [cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in output[0]]
    return np.stack(planes).argmax(axis=0).astype(np.uint8)


def overlay_usual(image: Image, labels: NDArray[Any], palette: Image) -> Image:
    """Palette and half-half blend: as examples do it."""
    return cv2.addWeighted(image, 0.5, palette[labels], 0.5, 0.0)


def open_usual(scene: Scene) -> Callable[[Image], NDArray[np.float32]]:
    """Preprocessing as examples do it."""
    return lambda image: preprocess_usual(image, scene.network)


def script(
    open_network: Callable[[Scene], Network],
    family: str,
    *modules: str,
    smooth: bool = False,
    open_preprocess: Callable[[Scene], Callable[[Image], NDArray[np.float32]]] = open_usual,
    note: str = "",
) -> Way:
    """The usual script around a network; labels of the frame's size are taken as they are."""

    def make(scene: Scene) -> Step:
        preprocess = open_preprocess(scene)
        network, palette = open_network(scene), scene.palette_bgr
        to_labels = labels_smooth if smooth else labels_nearest

        def step(image: Image) -> Picture:
            watch = Stopwatch()
            tensor = preprocess(image)
            times = {"preprocess": watch.lap()}
            output = network(tensor)
            times["network"] = watch.lap()
            labels = to_labels(output, scene.frame)
            overlay = overlay_usual(image, labels, palette)
            times["tail"] = watch.lap()
            return Picture(overlay, lambda: labels, {**times, "frame": sum(times.values())})

        return step

    told = "logits to the frame" if smooth else "labels to the frame by nearest"
    return Way(make, family, note or told, modules, is_smooth=smooth)


def open_torch(scene: Scene, *, smooth: bool = False) -> Network:
    """PyTorch eager, argmax in PyTorch; smooth: of logits interpolated to the frame."""
    import torch

    module = torch_module(scene)
    size = (scene.frame.height, scene.frame.width) if smooth else None

    def network(tensor: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            return torch_labels(module(torch.from_numpy(tensor)), size).numpy()

    return network


def torch_labels(output: Any, size: tuple[int, int] | None) -> Any:
    """Labels of what a module gives, brought to a size first where there is one."""
    import torch

    logits = output[0] if isinstance(output, tuple | list) else output
    if size is not None:
        logits = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits.argmax(dim=1)


def open_ort(name: str) -> Callable[[Scene], Network]:
    """ONNX Runtime, its session as it comes."""

    def make(scene: Scene) -> Network:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(scene.folder / name), providers=["CPUExecutionProvider"]
        )
        inputs = session.get_inputs()[0].name
        return lambda tensor: session.run(None, {inputs: tensor})[0]

    return make


def open_openvino(name: str) -> Callable[[Scene], Network]:
    """OpenVINO, compiled as it comes."""

    def make(scene: Scene) -> Network:
        import openvino

        compiled = openvino.compile_model(str(scene.folder / name), "CPU")
        return lambda tensor: compiled(tensor)[0]

    return make


def open_dnn(scene: Scene) -> Network:
    """OpenCV's own inference engine."""
    net = cv2.dnn.readNetFromONNX(str(scene.folder / "whole.onnx"))

    def network(tensor: NDArray[np.float32]) -> NDArray[Any]:
        net.setInput(tensor)
        return net.forward()

    return network


def model_api(soft: bool) -> Way:
    """OpenVINO Model API: classes, mean, scale and channel order are read from the ONNX file.

    Args:
        soft: Whether it returns every class's logits at frame size beside the labels, its default.
    """

    def make(scene: Scene) -> Step:
        from model_api.models import Model

        path, configuration = str(scene.folder / "whole.onnx"), {"return_soft_prediction": soft}
        model = Model.create_model(path, configuration=configuration)
        palette = scene.palette_bgr

        def step(image: Image) -> Picture:
            watch = Stopwatch()
            found = model(image)
            labels = found.resultImage if soft else found
            times = {"call": watch.lap()}
            overlay = overlay_usual(image, labels, palette)
            times["paint"] = watch.lap()
            return Picture(overlay, lambda: labels, {**times, "frame": sum(times.values())})

        return step

    note = "labels to the frame by nearest; " + ("its default" if soft else "without soft output")
    return Way(make, "OpenVINO Model API", note=note, modules=("model_api", "openvino", "onnx"))


CPU_WAYS: dict[str, Way] = {
    "segedge, OpenVINO": segedge_way("openvino", note="its default precision"),
    "segedge, OpenVINO f32": segedge_way("openvino:f32"),
    "segedge, ONNX Runtime": segedge_way("onnxruntime"),
    "PyTorch script": script(open_torch, "PyTorch", "torch"),
    "PyTorch script, smooth": script(
        partial(open_torch, smooth=True), "PyTorch", "torch", smooth=True
    ),
    "ONNX Runtime script": script(open_ort("whole.onnx"), "ONNX Runtime", "onnxruntime"),
    "ONNX Runtime script, argmax inside": script(
        open_ort("argmax.onnx"), "ONNX Runtime", "onnxruntime"
    ),
    "ONNX Runtime script, smooth": script(
        open_ort("whole.onnx"), "ONNX Runtime", "onnxruntime", smooth=True
    ),
    "OpenVINO script": script(open_openvino("whole.onnx"), "OpenVINO", "openvino"),
    "OpenVINO script, argmax inside": script(open_openvino("argmax.onnx"), "OpenVINO", "openvino"),
    "OpenVINO script, smooth": script(
        open_openvino("whole.onnx"), "OpenVINO", "openvino", smooth=True
    ),
    "OpenVINO Model API": model_api(soft=True),
    "OpenVINO Model API, labels only": model_api(soft=False),
    "OpenCV DNN script": script(open_dnn, "OpenCV DNN"),
}
