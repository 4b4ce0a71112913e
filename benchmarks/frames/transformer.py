"""SegFormer as its users run it: Hugging Face's pipeline, its classes by hand, and two runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from harness import Stopwatch
from numpy.typing import NDArray

from frames.scenes import Scene
from frames.scripts import Network, open_openvino, open_ort, overlay_usual, script
from frames.way import Image, Picture, Step, Way, segedge_way

_HUGGING_FACE = ("torch", "transformers", "PIL")


def _open_pipeline(scene: Scene) -> Step:
    """`pipeline("image-segmentation")`; its masks, one a class, are painted one after the other."""
    import transformers
    from PIL import Image as PilImage

    transformers.logging.set_verbosity_error()
    folder = str(scene.folder / "hf")
    segment = transformers.pipeline("image-segmentation", model=folder, image_processor=folder)
    number_of = {name: index for index, name in segment.model.config.id2label.items()}
    palette = scene.palette_bgr

    def step(image: Image) -> Picture:
        watch = Stopwatch()
        found = segment(PilImage.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)))
        times = {"call": watch.lap()}
        labels = np.zeros(image.shape[:2], np.uint8)
        for entry in found:
            labels[np.asarray(entry["mask"]) > 0] = number_of[entry["label"]]
        overlay = overlay_usual(image, labels, palette)
        times["paint"] = watch.lap()
        return Picture(overlay, lambda: labels, {**times, "frame": sum(times.values())})

    return step


def _open_classes(scene: Scene) -> Step:
    """Processor, model and `post_process_semantic_segmentation`, as the model's page shows."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    folder = str(scene.folder / "hf")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    palette = scene.palette_bgr

    def step(image: Image) -> Picture:
        watch = Stopwatch()
        inputs = processor(images=cv2.cvtColor(image, cv2.COLOR_BGR2RGB), return_tensors="pt")
        times = {"preprocess": watch.lap()}
        with torch.inference_mode():
            outputs = model(**inputs)
            times["network"] = watch.lap()
            found = processor.post_process_semantic_segmentation(
                outputs, target_sizes=[image.shape[:2]]
            )[0]
        labels = found.to(torch.uint8).numpy()
        overlay = overlay_usual(image, labels, palette)
        times["tail"] = watch.lap()
        return Picture(overlay, lambda: labels, {**times, "frame": sum(times.values())})

    return step


def _open_processor(scene: Scene) -> Callable[[Image], NDArray[np.float32]]:
    """Hugging Face's processor."""
    import transformers

    transformers.logging.set_verbosity_error()
    processor: Any = transformers.AutoImageProcessor.from_pretrained(str(scene.folder / "hf"))

    def preprocess(image: Image) -> NDArray[np.float32]:
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return np.asarray(processor(images=rgb, return_tensors="np")["pixel_values"], np.float32)

    return preprocess


def _with_processor(open_network: Callable[[Scene], Network], family: str, module: str) -> Way:
    """The processor before a runtime, every class to the frame and argmax after."""
    return script(
        open_network, family, module, *_HUGGING_FACE, smooth=True,
        open_preprocess=_open_processor, note="Hugging Face's processor",
    )  # fmt: skip


SEGFORMER_WAYS: dict[str, Way] = {
    "segedge, OpenVINO": segedge_way("openvino", note="its default precision"),
    "segedge, OpenVINO f32": segedge_way("openvino:f32"),
    "segedge, ONNX Runtime": segedge_way("onnxruntime"),
    "Hugging Face pipeline": Way(
        _open_pipeline, "Hugging Face", note="a mask a class, painted", modules=_HUGGING_FACE,
        is_smooth=True,
    ),
    "Hugging Face classes": Way(
        _open_classes, "Hugging Face", note="no masks: one label map", modules=_HUGGING_FACE,
        is_smooth=True,
    ),
    "ONNX Runtime script": _with_processor(open_ort("cut.onnx"), "ONNX Runtime", "onnxruntime"),
    "OpenVINO script": _with_processor(open_openvino("cut.onnx"), "OpenVINO", "openvino"),
}  # fmt: skip
