"""The steps of the ensemble, which Triton's Python backend runs: segedge's own pre and tail.

A ``model.py`` of the repository imports one of the two classes below. They have the three methods
that the backend calls, take their card from the configuration's parameter, and compute with the
same code as a local `Segmenter`.
https://github.com/triton-inference-server/python_backend#usage
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.geometry import Size
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.errors import BackendError, CardError, SegedgeError
from segedge.machine.optional import require
from segedge.machine.processors import usable_processors
from segedge.segment.fitting import checked_image
from segedge.segment.plans import Plans
from segedge.serve.config import FRAME, LABELS, LOGITS, OVERLAY, TENSOR

_PLANS_KEPT = 8
"""Frame sizes whose tables are kept: many cameras of few sizes."""
_OPACITY = 0.5


class FramePreprocessor:
    """Frames of any size to the network's input tensor. One call at a time."""

    def __init__(self, card: ModelCard, *, dtype: str, threads: int) -> None:
        workers = Workers(threads)

        def make(frame: Size) -> Preprocess:
            geometry = card.place(frame)
            return Preprocess(card, geometry, workers=workers, dtype=dtype)

        self._dtype = np.dtype(dtype)
        self._plans = Plans(make, _PLANS_KEPT)

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        """A fresh tensor of one frame, H x W x 3 uint8 BGR."""
        image = checked_image(frame)
        preprocessor = self._plans.of(Size(*image.shape[:2]))
        tensor = np.empty(preprocessor.shape, self._dtype)
        preprocessor.run(image, tensor)
        return tensor


class FrameTail:
    """The network's output to labels and overlay, at the frame's own size. One call at a time."""

    def __init__(self, card: ModelCard, *, threads: int) -> None:
        self._card, self._workers = card, Workers(threads)
        self._blend = Blend.of(card.palette_rgb, _OPACITY)

        def make(frame: Size) -> dict[Size, Tail]:
            return {}

        self._plans = Plans(make, _PLANS_KEPT)

    def __call__(
        self, frame: NDArray[np.uint8], logits: NDArray[Any], *, outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Fresh ``labels`` and ``overlay``, as asked for, of a frame, H x W x 3 uint8 BGR."""
        image = checked_image(frame)
        size = Size(*image.shape[:2])
        tail = self._tail(size, self._card.grid_size(logits.shape))
        made: dict[str, NDArray[Any]] = {}
        extra: dict[str, Any] = {}
        if LABELS in outputs:
            made[LABELS] = np.empty((size.height, size.width), tail.label_dtype)
        if OVERLAY in outputs:
            made[OVERLAY] = np.empty(image.shape, np.uint8)
            extra = {"frame": image, "blend": self._blend}
        tail.run(logits, **made, **extra)  # type: ignore[arg-type]
        return made

    def _tail(self, frame: Size, grid: Size) -> Tail:
        tails = self._plans.of(frame)
        if grid not in tails:
            geometry = self._card.place(frame)
            tails[grid] = Tail(self._card, geometry, grid, workers=self._workers)
        return tails[grid]


class PreprocessStep:
    """``TritonPythonModel`` of the step before the network."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Called once, before the first request; ``model_config`` is the configuration as JSON."""
        self._triton = _python_backend()
        config = json.loads(args["model_config"])
        tensor = _entry(config["output"], TENSOR)
        dtype = np.dtype(self._triton.triton_string_to_numpy(tensor["data_type"])).name
        self._run = FramePreprocessor(card_of(config), dtype=dtype, threads=_threads(config))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return [_answer(self._triton, request, self._outputs) for request in requests]

    def _outputs(self, request: Any) -> dict[str, NDArray[Any]]:
        return {TENSOR: self._run(_array(self._triton, request, FRAME))}


class TailStep:
    """``TritonPythonModel`` of the step behind the network."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Called once, before the first request; see `PreprocessStep.initialize`."""
        self._triton = _python_backend()
        config = json.loads(args["model_config"])
        self._run = FrameTail(card_of(config), threads=_threads(config))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return [_answer(self._triton, request, self._outputs) for request in requests]

    def _outputs(self, request: Any) -> dict[str, NDArray[Any]]:
        frame = _array(self._triton, request, FRAME)
        logits = _array(self._triton, request, LOGITS)
        return self._run(frame, logits, outputs=tuple(request.requested_output_names()))


def card_of(config: Mapping[str, Any]) -> ModelCard:
    """The card in the parameters of a configuration, as Triton's JSON says it."""
    text = config.get("parameters", {}).get(CARD_KEY, {}).get("string_value", "")
    if not text:
        raise CardError(
            f"the configuration of {config.get('name', 'the model')} has no parameter {CARD_KEY}",
            fix="segedge triton MODEL -o model_repository/ writes one",
        )
    return ModelCard.from_json(text)


def _python_backend() -> Any:
    """The library that a model of the Python backend talks through.

    One that was compiled for NumPy 1 is refused where NumPy 2 is: it would hand in frames that hold
    one value everywhere and send answers of no bytes, without a word.
    """
    triton = require("triton_python_backend_utils", purpose="run inside Triton's python backend")
    if int(np.__version__.partition(".")[0]) < 2:
        return triton
    sent = np.arange(2, dtype=np.float32)
    received = triton.Tensor.from_dlpack("probe", sent).as_numpy()
    if not np.array_equal(sent, received):
        raise BackendError(
            "the python backend of this Triton server was compiled for NumPy 1",
            facts={"found": f"NumPy {np.__version__}; an array of {sent} arrives as {received}"},
            fix="pip install 'numpy<2' 'opencv-python<4.12' in the server's Python, or a newer"
            " Triton",
        )
    return triton


def _threads(config: Mapping[str, Any]) -> int:
    """The cores that this process may use, shared by the step's processes."""
    count = sum(int(group.get("count", 1)) for group in config.get("instance_group", ())) or 1
    return max(1, usable_processors() // count)


def _entry(tensors: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(tensor for tensor in tensors if tensor["name"] == name)


def _array(triton: Any, request: Any, name: str) -> NDArray[Any]:
    array: NDArray[Any] = triton.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _answer(triton: Any, request: Any, compute: Callable[[Any], dict[str, NDArray[Any]]]) -> Any:
    """A response; what the user can mend is the client's error, the others go on."""
    try:
        made = compute(request)
    except SegedgeError as error:
        return triton.InferenceResponse([], triton.TritonError(str(error)))
    return triton.InferenceResponse([triton.Tensor(name, array) for name, array in made.items()])
