"""One frame on a CPU, from uint8 BGR image to uint8 BGR overlay: segedge and the usual scripts.

    python benchmarks/cpu_frame.py [--rounds 3] [--repeats 40]

Same frames (1024x2048), same network (Fast-SCNN 512x1024 where the shared models are, else the
bundled one), same output; each variant in a process of its own, in turn. The scripts do what their
libraries' examples do: cv2.resize + NumPy normalisation before, palette indexing, cv2.resize and
cv2.addWeighted after. Output pixels are compared before any time is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from harness import Stopwatch, environment, measure, run_in_turn, write_results
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
STREET = ROOT / "export/street"
FRAME_SIZE = (1024, 2048)
NETWORK_SIZE = (512, 1024)
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)

Step = Callable[[], dict[str, float]]
Network = Callable[[NDArray[np.float32]], NDArray[Any]]


def main() -> None:
    """Parse the arguments; without ``--variant`` run all variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    if options.variant:
        figures = worker(options.variant, options.models, options.repeats)
        print(json.dumps(figures))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        arguments = ["--models", folder, "--repeats", str(options.repeats)]
        rows = run_in_turn(
            Path(__file__), list(VARIANTS), rounds=options.rounds, arguments=arguments
        )
        agreement = compare(Path(folder))
    print_table(rows, agreement)
    if options.save:
        print(write_results("cpu_frame", {"milliseconds": rows, "agreement": agreement}))


# What the variants run on ---------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Make the frame and every form of the network: cut with card, whole, with ArgMax inside."""
    import onnx
    from onnx import TensorProto, helper

    from segedge.convert import ExportOptions, export
    from segedge.geometry import Size

    cv2.imwrite(str(folder / "frame.png"), frame_image())
    shared = SHARED / "models" / "fastscnn_camvid_512x1024.onnx"
    if shared.is_file():
        whole, classes = shared, "camvid"
    else:
        whole, classes = folder / "bundled.onnx", str(STREET / "classes.txt")
        bundled = ExportOptions(
            checkpoint=STREET / "street.pth",
            size=Size(*NETWORK_SIZE),
            classes=classes,
            keep_tail=True,
        )
        export(f"{STREET / 'network.py'}:street_net", whole, options=bundled)
    model = onnx.load(whole)
    onnx.save(model, folder / "whole.onnx")
    labels = model.graph.output[0]
    model.graph.node.append(
        helper.make_node("ArgMax", [labels.name], ["labels"], axis=1, keepdims=0)
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, None))
    onnx.save(model, folder / "argmax.onnx")
    export(whole, folder / "cut.onnx", options=ExportOptions(classes=classes))


def frame_image() -> NDArray[np.uint8]:
    """A real road scene enlarged to the frame size, or a still of the bundled clip."""
    images = sorted((SHARED / "data/camvid/val/images").glob("*.jpg"))
    if images:
        image = cv2.imread(str(images[len(images) // 2]))
    else:
        ok, image = cv2.VideoCapture(str(STREET / "street.mp4")).read()
        assert ok
    return cv2.resize(image, FRAME_SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def palette_bgr(folder: Path) -> NDArray[np.uint8]:
    """The card's palette, BGR."""
    from segedge.card import ModelCard
    from segedge.modelfile import read_metadata

    card = ModelCard.from_metadata(read_metadata(folder / "cut.onnx"))
    assert card is not None
    return np.array(card.palette_rgb, np.uint8)[:, ::-1].copy()


# The variants ---------------------------------------------------------------------------------


def segedge_variant(backend: str) -> Callable[[Path], Step]:
    """The whole frame through segedge."""

    def make(folder: Path) -> Step:
        import segedge

        segmenter = segedge.load(folder / "cut.onnx", backend=backend)
        image = cv2.imread(str(folder / "frame.png"))

        def step() -> dict[str, float]:
            watch = Stopwatch()
            result = segmenter(image, outputs=("overlay",))
            frame_ms = watch.lap()
            return {**result.times.milliseconds, "frame": frame_ms}

        return step

    return make


def network_variant(backend: str) -> Callable[[Path], Step]:
    """The cut network alone, into preallocated memory."""

    def make(folder: Path) -> Step:
        from segedge.backends.registry import open_backend

        opened = open_backend(folder / "cut.onnx", backend).backend
        image = preprocess_usual(cv2.imread(str(folder / "frame.png")))
        outputs = [np.empty_like(array) for array in opened.run([image])]

        def step() -> dict[str, float]:
            watch = Stopwatch()
            opened.run([image], outputs)
            return {"network": watch.lap()}

        return step

    return make


def script_variant(open_network: Callable[[Path], Network]) -> Callable[[Path], Step]:
    """A usual script around a network that gives full-resolution logits, or labels."""

    def make(folder: Path) -> Step:
        network = open_network(folder)
        image = cv2.imread(str(folder / "frame.png"))
        palette = palette_bgr(folder)

        def step() -> dict[str, float]:
            watch = Stopwatch()
            tensor = preprocess_usual(image)
            times = {"preprocess": watch.lap()}
            output = network(tensor)
            times["network"] = watch.lap()
            labels = output if output.ndim == 3 else output.argmax(axis=1)
            overlay_usual(image, labels[0], palette)
            times["tail"] = watch.lap()
            times["frame"] = sum(times.values())
            return times

        return step

    return make


def preprocess_usual(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Resize, swap, scale, normalise, transpose: as examples do it."""
    resized = cv2.resize(image, NETWORK_SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    rgb = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB).astype(np.float32) / 255.0
    return np.ascontiguousarray(((rgb - MEAN) / STD).transpose(2, 0, 1)[None])


def overlay_usual(
    image: NDArray[np.uint8], labels: NDArray[Any], palette: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Labels up to the frame by nearest, palette, half-half blend: as examples do it."""
    full = cv2.resize(labels.astype(np.uint8), FRAME_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(image, 0.5, palette[full], 0.5, 0.0)


def open_torch(folder: Path) -> Network:
    """PyTorch eager: the exported program at its size, or the bundled module."""
    import torch

    module = _shared_program() or _bundled_module()

    def network(tensor: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            output = module(torch.from_numpy(tensor))
            logits = output[0] if isinstance(output, tuple | list) else output
            return logits.argmax(dim=1).numpy()

    return network


def _shared_program() -> Any:
    """The shared CamVid program, its interpolation sizes set to the benchmark's input."""
    import torch

    path = SHARED / "models" / "fastscnn_camvid.pt2"
    if not path.is_file():
        return None
    program = torch.export.load(str(path))
    sizes = {(11, 15): [16, 32], (352, 480): list(NETWORK_SIZE)}
    module = program.module(check_guards=False)
    for node in module.graph.nodes:
        node.args = tuple(
            sizes.get(tuple(a), a) if isinstance(a, list) and len(a) == 2 else a for a in node.args
        )
    module.recompile()
    # torch 2.13 checks the exported size in a hook, whatever check_guards says.
    module._forward_pre_hooks.clear()
    return module


def _bundled_module() -> Any:
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


def open_ort(name: str) -> Callable[[Path], Network]:
    """ONNX Runtime as its documentation runs it."""

    def make(folder: Path) -> Network:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(folder / name), providers=["CPUExecutionProvider"]
        )
        return lambda tensor: session.run(None, {session.get_inputs()[0].name: tensor})[0]

    return make


def open_ov(name: str) -> Callable[[Path], Network]:
    """OpenVINO as its documentation runs it."""

    def make(folder: Path) -> Network:
        import openvino

        compiled = openvino.compile_model(str(folder / name), "CPU")
        return lambda tensor: compiled(tensor)[0]

    return make


VARIANTS: dict[str, Callable[[Path], Step]] = {
    "network alone, OpenVINO": network_variant("openvino"),
    "network alone, OpenVINO f32": network_variant("openvino:f32"),
    "network alone, ONNX Runtime": network_variant("onnxruntime"),
    "segedge, OpenVINO": segedge_variant("openvino"),
    "segedge, OpenVINO f32": segedge_variant("openvino:f32"),
    "segedge, ONNX Runtime": segedge_variant("onnxruntime"),
    "PyTorch eager script": script_variant(open_torch),
    "ONNX Runtime script": script_variant(open_ort("whole.onnx")),
    "ONNX Runtime script, argmax inside": script_variant(open_ort("argmax.onnx")),
    "OpenVINO script": script_variant(open_ov("whole.onnx")),
    "OpenVINO script, argmax inside": script_variant(open_ov("argmax.onnx")),
}


def worker(variant: str, folder: Path, repeats: int) -> dict[str, float]:
    """Measure one variant in this process."""
    return measure(VARIANTS[variant](folder), warm_up=5, repeats=repeats)


# The table ------------------------------------------------------------------------------------


def compare(folder: Path) -> dict[str, float]:
    """Share of frame pixels on which segedge and the ONNX Runtime script agree."""
    import segedge

    image = cv2.imread(str(folder / "frame.png"))
    output = open_ort("whole.onnx")(folder)(preprocess_usual(image))
    full = np.stack(
        [cv2.resize(c, FRAME_SIZE[::-1], interpolation=cv2.INTER_LINEAR) for c in output[0]]
    )
    truth = full.argmax(axis=0)
    agreement = {}
    for backend in ("onnxruntime", "openvino:f32", "openvino"):
        with segedge.load(folder / "cut.onnx", backend=backend) as segmenter:
            agreement[backend] = float((segmenter(image).labels == truth).mean())
    return agreement


def print_table(rows: dict[str, dict[str, float]], agreement: dict[str, float]) -> None:
    """Stages in milliseconds, and the frame as a multiple of segedge's."""
    best = min(row["frame"] for name, row in rows.items() if name.startswith("segedge"))
    facts = environment()
    print(f"{facts['cpu']}, {facts['threads']} threads; frame 1024x2048, network 512x1024")
    for backend, share in agreement.items():
        print(f"pixels equal to ONNX Runtime + OpenCV's upsampling, {backend}: {share:.4%}")
    print(f"{'':36}{'pre':>8}{'network':>9}{'tail':>8}{'frame':>9}{'ratio':>8}")
    for name, row in rows.items():
        cells = [row.get(stage) for stage in ("preprocess", "network", "tail", "frame")]
        texts = [f"{cell:.1f}" if cell is not None else "-" for cell in cells]
        ratio = f"{row['frame'] / best:.2f}" if "frame" in row else "-"
        print(f"{name:36}{texts[0]:>8}{texts[1]:>9}{texts[2]:>8}{texts[3]:>9}{ratio:>8}")


if __name__ == "__main__":
    main()
