"""What the ways run on: frames, and every form of a network that they need, in one folder.

``frame-0.png`` and on are the frames, BGR. ``cut.onnx`` gives logits at the network's stride and
carries the card: what segedge runs. ``whole.onnx`` gives logits at the network's input size, as
PyTorch exports it, with the card; ``argmax.onnx`` has ArgMax inside. SegFormer has ``hf/`` instead:
model and image processor as `save_pretrained` writes them.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import label_set
from segedge.card.modelfile import read_card

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
STREET = ROOT / "export/street"
FRAMES = 4
CITYSCAPES, HD = Size(1024, 2048), Size(720, 1280)


@dataclass(frozen=True)
class Scene:
    """A network, its frames, and where all forms of it lie."""

    folder: Path
    card: ModelCard
    frames: tuple[NDArray[np.uint8], ...]

    @classmethod
    def load(cls, folder: Path) -> Scene:
        """Read what one of the functions below has made."""
        card = read_card(folder / "cut.onnx")
        assert card is not None
        paths = sorted(folder.glob("frame-*.png"))
        return cls(folder, card, tuple(cv2.imread(str(path)) for path in paths))

    @property
    def frame(self) -> Size:
        """Size of the frames."""
        return Size(*self.frames[0].shape[:2])

    @property
    def network(self) -> Size:
        """Size of the network's input."""
        return self.card.input_size

    @property
    def palette_bgr(self) -> NDArray[np.uint8]:
        """A colour a class."""
        return np.array(self.card.palette_rgb, np.uint8)[:, ::-1].copy()


def shared_fast_scnn() -> Path | None:
    """The shared Fast-SCNN of 512x1024, trained on CamVid, where it lies beside the repository."""
    path = SHARED / "models" / "fastscnn_camvid_512x1024.onnx"
    return path if path.is_file() else None


def make_fast_scnn(folder: Path, *, frame: Size = CITYSCAPES) -> str:
    """Fast-SCNN 512x1024, or the bundled street network of that size where it is absent.

    Returns:
        What it is, in words.
    """
    shared = shared_fast_scnn()
    if shared is None:
        return make_street(folder, network=Size(512, 1024), frame=frame)
    shutil.copy(shared, folder / "plain.onnx")
    _finish(folder, "camvid")
    write_frames(folder, frame)
    return "Fast-SCNN 512x1024 trained on CamVid"


def make_street(folder: Path, *, network: Size, frame: Size) -> str:
    """The bundled street network at any size; needs PyTorch."""
    from segedge.convert import ExportOptions, export

    classes = str(STREET / "classes.txt")
    options = ExportOptions(
        checkpoint=STREET / "street.pth", size=network, classes=classes, keep_tail=True
    )
    export(f"{STREET / 'network.py'}:street_net", folder / "plain.onnx", options=options)
    _finish(folder, classes)
    write_frames(folder, frame)
    return f"the bundled street network {network}"


def make_tiny_street(folder: Path) -> str:
    """The bundled network about as small as it can be: for ``--quick``."""
    return make_street(folder, network=Size(128, 256), frame=Size(256, 512))


def _finish(folder: Path, classes: str) -> None:
    """From ``plain.onnx``, with its upsampling inside, the other forms."""
    import onnx
    from onnx import TensorProto, helper

    from segedge.convert import ExportOptions, export

    plain = folder / "plain.onnx"
    keep, cut = ExportOptions(classes=classes, keep_tail=True), ExportOptions(classes=classes)
    export(plain, folder / "whole.onnx", options=keep)
    export(plain, folder / "cut.onnx", options=cut)
    model = onnx.load(folder / "whole.onnx")
    logits = model.graph.output[0]
    argmax = helper.make_node("ArgMax", [logits.name], ["labels"], axis=1, keepdims=0)
    model.graph.node.append(argmax)
    del model.graph.output[:], model.metadata_props[:]
    model.graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, None))
    onnx.save(model, folder / "argmax.onnx")


def make_segformer(folder: Path, *, network: int = 512, frame: Size = HD,
                   tiny: bool = False) -> str:  # fmt: skip
    """SegFormer-B0 shapes with random weights from a fixed seed: 150 classes at stride 4.

    Depths, widths and heads are the defaults of transformers' SegformerConfig, which are B0's.
    """
    import torch
    import transformers

    from segedge.convert import ExportOptions, export

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    small = {"hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16, "depths": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(num_labels=150, **(small if tiny else {}))
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    model.save_pretrained(folder / "hf")
    processor = transformers.SegformerImageProcessor(size={"height": network, "width": network})
    processor.save_pretrained(folder / "hf")
    export(folder / "hf", folder / "cut.onnx", options=ExportOptions())
    write_frames(folder, frame)
    return f"SegFormer-{'tiny' if tiny else 'B0'} shapes {network}x{network}, random weights"


def write_frames(folder: Path, size: Size) -> None:
    """Real road scenes enlarged to the size, or stills of the bundled clip."""
    for index, image in enumerate(_images()):
        resized = cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"frame-{index}.png"), resized)


def _images() -> list[NDArray[Any]]:
    paths = sorted((SHARED / "data/camvid/val/images").glob("*.jpg"))
    if paths:
        chosen = [paths[(2 * k + 1) * len(paths) // (2 * FRAMES)] for k in range(FRAMES)]
        return [cv2.imread(str(path)) for path in chosen]
    clip = cv2.VideoCapture(str(STREET / "street.mp4"))
    stills = [still for _ in range(60) for ok, still in [clip.read()] if ok]
    return [stills[k * (len(stills) - 1) // (FRAMES - 1)] for k in range(FRAMES)]


def torch_module(scene: Scene, *, device: str = "cpu") -> Any:
    """The network in PyTorch, giving logits at the network's input size."""
    is_camvid = scene.card.classes == label_set("camvid").names
    module = _shared_program(scene.network, device) if is_camvid else None
    return module if module is not None else _street_module().to(device)


def _shared_program(network: Size, device: str) -> Any:
    """The shared CamVid program, its interpolation sizes set to the input of 512x1024."""
    import torch

    path = SHARED / "models" / "fastscnn_camvid.pt2"
    if not path.is_file() or network != Size(512, 1024):
        return None
    program = torch.export.load(str(path))
    if device != "cpu":
        program = torch.export.passes.move_to_device_pass(program, device)
    sizes = {(11, 15): [16, 32], (352, 480): [network.height, network.width]}
    module = program.module(check_guards=False)
    for node in module.graph.nodes:
        node.args = tuple(
            sizes.get(tuple(a), a) if isinstance(a, list) and len(a) == 2 else a for a in node.args
        )
    module.recompile()
    # torch 2.13 checks the exported size in a hook, whatever check_guards says.
    module._forward_pre_hooks.clear()
    return module


def _street_module() -> Any:
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("network", STREET / "network.py")
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(STREET))
    spec.loader.exec_module(code)
    module = code.street_net().eval()
    state = torch.load(STREET / "street.pth", weights_only=True)
    module.load_state_dict(state["state_dict"])
    return module
