"""What users write on NVIDIA GPUs: PyTorch eager and compiled, ONNX Runtime CUDA, CV-CUDA.

Frames come from host memory and overlays go back there, as in `segedge bench`'s mode ``frame``.
**Not measured yet**: no GPU was at hand when this was written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from harness import Stopwatch
from numpy.typing import NDArray

from frames.scenes import Scene, torch_module
from frames.scripts import MEAN, STD, Network, script, torch_labels
from frames.way import Image, Picture, Step, Way, segedge_way


def _open_torch(compiled: bool, smooth: bool) -> Callable[[Scene], Network]:
    def make(scene: Scene) -> Network:
        import torch

        module: Any = torch_module(scene, device="cuda")
        module = torch.compile(module) if compiled else module
        size = (scene.frame.height, scene.frame.width) if smooth else None

        def network(tensor: NDArray[np.float32]) -> NDArray[Any]:
            with torch.inference_mode():
                labels = torch_labels(module(torch.from_numpy(tensor).cuda()), size)
                return labels.to(torch.uint8).cpu().numpy()

        return network

    return make


def _open_ort(scene: Scene) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(scene.folder / "argmax.onnx"), providers=["CUDAExecutionProvider"]
    )
    if "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("ONNX Runtime fell back to the CPU")
    inputs = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {inputs: tensor})[0]


def _open_cvcuda(scene: Scene) -> Step:
    """CV-CUDA's operators before and after PyTorch, as its segmentation sample chains them."""
    import cvcuda
    import torch

    module = torch_module(scene, device="cuda")
    palette = torch.from_numpy(scene.palette_bgr).cuda()
    height, width = scene.frame.height, scene.frame.width
    half = cvcuda.as_tensor(
        torch.full((1, height, width, 1), 128, dtype=torch.uint8, device="cuda"), "NHWC"
    )
    mean, std = (
        cvcuda.as_tensor(torch.from_numpy(row).reshape(1, 1, 1, 3).cuda(), "NHWC")
        for row in (MEAN, STD)
    )

    def step(image: Image) -> Picture:
        watch = Stopwatch()
        frame = cvcuda.as_tensor(torch.from_numpy(image)[None].cuda(), "NHWC")
        small = cvcuda.resize(
            frame, (1, scene.network.height, scene.network.width, 3), cvcuda.Interp.LINEAR
        )
        rgb = cvcuda.cvtcolor(small, cvcuda.ColorConversion.BGR2RGB)
        scaled = cvcuda.convertto(rgb, np.float32, scale=1 / 255)
        normal = cvcuda.normalize(
            scaled, base=mean, scale=std, flags=cvcuda.NormalizeFlags.SCALE_IS_STDDEV
        )
        tensor = torch.as_tensor(cvcuda.reformat(normal, "NCHW").cuda(), device="cuda")
        with torch.inference_mode():
            output = module(tensor)
            logits = output[0] if isinstance(output, tuple | list) else output
            small_labels = logits.argmax(dim=1).to(torch.uint8)[..., None].contiguous()
        labels = cvcuda.resize(
            cvcuda.as_tensor(small_labels, "NHWC"), (1, height, width, 1), cvcuda.Interp.NEAREST
        )
        found = torch.as_tensor(labels.cuda(), device="cuda")[0, :, :, 0]
        colors = cvcuda.as_tensor(palette[found.long()][None].contiguous(), "NHWC")
        blended = cvcuda.composite(colors, frame, half, 3)
        overlay = torch.as_tensor(blended.cuda(), device="cuda")[0].cpu().numpy()
        return Picture(overlay, lambda: found.cpu().numpy(), {"frame": watch.lap()})

    return step


def _script(
    open_network: Callable[[Scene], Network], family: str, *modules: str, smooth: bool = False
) -> Way:
    return replace(script(open_network, family, *modules, smooth=smooth), on_gpu=True)


GPU_WAYS: dict[str, Way] = {
    "segedge, TensorRT fp16 (GPU)": segedge_way("tensorrt:fp16", on_gpu=True),
    "segedge, ONNX Runtime CUDA (GPU)": segedge_way("onnxruntime-cuda", on_gpu=True),
    "PyTorch script (GPU)": _script(_open_torch(False, False), "PyTorch GPU", "torch"),
    "PyTorch script, smooth (GPU)": _script(
        _open_torch(False, True), "PyTorch GPU", "torch", smooth=True
    ),
    "torch.compile script (GPU)": _script(_open_torch(True, False), "PyTorch GPU", "torch"),
    "ONNX Runtime CUDA script (GPU)": _script(_open_ort, "ONNX Runtime CUDA", "onnxruntime"),
    "CV-CUDA around PyTorch (GPU)": Way(
        _open_cvcuda, "CV-CUDA", "labels to the frame by nearest", ("cvcuda", "torch"), on_gpu=True
    ),
}
