"""A Hugging Face folder's processor: its settings, and its own way from image to labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.huggingface import (
    HuggingFaceFolder,
    read_huggingface,
    read_json,
    read_settings,
)
from segedge.errors import ExportError, first_line
from segedge.machine.optional import installed_version, require

_MASK_MODELS = ("mask2former", "maskformer", "oneformer", "eomt", "eomt_dinov3")
_MASK_PROCESSORS = ("Mask2Former", "MaskFormer", "OneFormer", "Eomt")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def check_folder(folder: Path) -> None:
    """Refuse what would need a network connection, or code from the folder.

    Raises:
        ExportError: Code of its own, weights elsewhere.
        CardError: No processor settings.
    """
    config = read_json(folder / "config.json")
    settings = read_settings(folder)
    for name, found in (("config.json", config), ("preprocessor_config.json", settings)):
        if found.get("auto_map"):
            raise ExportError(
                f"{folder.name}/{name} names Python code of its own, which is never executed",
                facts={"found": f"auto_map: {', '.join(found['auto_map'])}"},
                fix="build the module in a file of yours: segedge export nets.py:factory",
            )
    backbone = config.get("backbone")
    if backbone and config.get("use_pretrained_backbone"):
        raise ExportError(
            f"{folder.name}/config.json takes its backbone from a hub",
            facts={"found": f"backbone: {backbone}, use_pretrained_backbone: true"},
            fix="load it once where there is a connection, and save_pretrained() the whole model",
        )
    if not any(file.suffix in _WEIGHTS for file in folder.iterdir()):
        named = config.get("_name_or_path")
        raise ExportError(
            f"{folder.name} has no weights" + (f"; its config names {named!r}" if named else ""),
            facts={"expected": "model.safetensors or pytorch_model.bin"},
            fix=f"hf download {named or 'OWNER/NAME'} --local-dir {folder}   "
            "(segedge downloads nothing)",
        )
    _check_family(config, settings, folder)


def _check_family(config: dict[str, Any], settings: dict[str, Any], folder: Path) -> None:
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    model = str(config.get("model_type", ""))
    if kind and kind.startswith(_MASK_PROCESSORS) != (model in _MASK_MODELS):
        raise ExportError(
            f"the processor of {folder.name} is of another family than its network",
            facts={"network": model, "processor": kind},
            fix="put the preprocessor_config.json there that the weights came with",
        )


def load_processor(folder: Path) -> Any:
    """The folder's image processor.

    Raises:
        ExportError: transformers cannot make it, or it has no semantic post-processing.
    """
    auto = require("transformers", purpose="load a Hugging Face folder")
    try:
        processor = auto.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, ImportError) as error:
        raise ExportError(
            f"{folder.name} has no image processor that transformers can load",
            facts={"says": first_line(error)},
            fix="put the preprocessor_config.json there that the weights came with",
        ) from error
    if not hasattr(processor, "post_process_semantic_segmentation"):
        raise ExportError(
            f"the processor of {folder.name} is none of a semantic segmentation network",
            facts={"found": type(processor).__name__},
            fix="put the preprocessor_config.json there that the weights came with",
        )
    return processor


def said_by(processor: Any, folder: Path) -> HuggingFaceFolder:
    """What the folder says, with the defaults of the processor's class filled in."""
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
    settings = processor.to_dict()
    names = getattr(getattr(processor, "valid_kwargs", None), "__annotations__", {})
    if names:  # what is not among them, the class has not; what to_dict() leaves out is None: no
        settings = {name: settings.get(name, getattr(processor, name, None)) for name in names}
    return read_huggingface(folder, _plain(settings), processor=kind)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: dict(value) if hasattr(value, "keys") else value for name, value in settings.items()
    }


class HuggingFaceWay:
    """Processor, model and post-processing, as a user of transformers runs them."""

    def __init__(self, processor: Any, module: Any, said: HuggingFaceFolder) -> None:
        """Take what was loaded from a folder."""
        self._processor, self._module, self._said = processor, module, said
        kind, version = type(processor).__name__, installed_version("transformers")
        self.name = f"{kind} and its post-processing, transformers {version}"

    def tensor(self, image: NDArray[np.uint8], card: ModelCard) -> NDArray[np.float32]:
        """What the processor makes of a BGR image; ExportError where it is of another size."""
        given: dict[str, Any] = {}
        if self._said.input_size not in (None, card.input_size):
            size = {"height": card.input_height, "width": card.input_width}
            given["size" if card.scaling is None else "crop_size"] = size
        rgb = np.ascontiguousarray(image[..., ::-1])
        try:
            found = self._processor(
                images=rgb, return_tensors="np", input_data_format="channels_last", **given
            )
        except Exception as error:  # settings that its class cannot follow raise anything
            raise ExportError(
                f"{type(self._processor).__name__} fails on an image with the folder's settings",
                facts={"says": f"{type(error).__name__}: {str(error)[:160]}"},
                fix="put the preprocessor_config.json there that the weights came with",
            ) from error
        tensor = np.asarray(found["pixel_values"], np.float32)
        height, width = tensor.shape[-2:]
        if (height, width) != (card.input_height, card.input_width):
            frame = Size(*image.shape[:2])
            raise ExportError(
                f"the processor brings frames of {frame} to {height}x{width}, not to "
                f"{card.input_size}",
                facts={"because": self._said.follows_frame or "its settings say so"},
                fix=f"--size {height}x{width} for frames of {frame}: one file a size",
            )
        return tensor.transpose(0, 2, 3, 1) if card.input_layout == "nhwc" else tensor

    def labels(self, tensor: NDArray[np.float32], size: Size) -> NDArray[np.int64]:
        """Labels by the model in PyTorch and the processor's post-processing."""
        torch = require("torch", purpose="run a Hugging Face network")
        with torch.inference_mode():
            outputs = self._module(torch.from_numpy(np.ascontiguousarray(tensor)))
        given: dict[str, Any] = {}
        if type(self._processor).__name__.startswith("Eomt"):  # else: of its settings alone
            given["size"] = {"shortest_edge": tensor.shape[2], "longest_edge": tensor.shape[3]}
        found = self._processor.post_process_semantic_segmentation(
            outputs, target_sizes=[(size.height, size.width)], **given
        )
        return np.asarray(found[0].cpu().numpy(), np.int64)
