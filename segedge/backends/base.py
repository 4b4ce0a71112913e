"""What a backend is: tensors in, logits out, nothing about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from segedge.card.axes import shape_text
from segedge.errors import BackendError
from segedge.frames.closing import check_open

Memory = Literal["host", "cuda"]
Precision = Literal["f32", "tf32", "f16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""The most exact first; tf32 is float32 with 10-bit mantissas, as NVIDIA's GPUs multiply it."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of a network's input or output."""

    name: str
    dtype: str
    """NumPy's name: ``float32``, ``float16``, ``int64``, ``uint8``."""
    shape: tuple[int | None, ...]
    """None where an axis is dynamic."""

    def __str__(self) -> str:
        return f"{self.name} {shape_text(self.shape)} {self.dtype}"

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The shape with 1 where an axis is dynamic."""
        return tuple(axis or 1 for axis in self.shape)


Specs = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs of a network."""
Arrays = Sequence[NDArray[Any]]
"""What backends of host memory take and give: one array an input or output."""


def one_image_specs(image: tuple[int, ...], logits: Any, *, dtype: str = "float32") -> Specs:
    """Of a network from one image to one array of logits, which was seen."""
    found = TensorSpec("logits", np.dtype(logits.dtype).name, tuple(logits.shape))
    return (TensorSpec("image", dtype, image),), (found,)


def delivered(results: Arrays, outputs: Arrays | None) -> Arrays:
    """What a run gives: new arrays, or their values in those that the caller handed in."""
    if outputs is None:
        return results
    for result, output in zip(results, outputs, strict=True):
        np.copyto(output, result)
    return outputs


def check_usable(is_open: bool, description: str) -> None:
    """Raise UsageError where a backend is to run that was closed."""
    fix = "close it after its last run; a segmenter closes its backend with itself"
    check_open(is_open, f"the backend {description}", fix=fix)


def run_error(headline: str, inputs: Arrays, specs: Specs, says: str) -> BackendError:
    """A library failed; as often as not because the inputs are not those that it expects."""
    return BackendError(
        headline,
        facts={
            "inputs": ", ".join(f"{array.dtype} {array.shape}" for array in inputs),
            "expected": ", ".join(map(str, specs[0])),
            "says": says,
        },
    )


class Backend(Protocol):
    """An inference library with one loaded network.

    Not thread-safe: one call at a time. ``memory`` says whose arrays it takes and so selects the
    cpu/ or the cuda/ twin of everything around it.
    """

    @property
    def description(self) -> str:
        """Library, version, device and precision in a few words, for people."""

    @property
    def precision(self) -> Precision:
        """What it computes in where the file says float32; files may say less themselves."""

    @property
    def memory(self) -> Memory:
        """``host``: NumPy arrays; ``cuda``: device arrays on the current device."""

    @property
    def specs(self) -> Specs:
        """Inputs and outputs of the network."""

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        """Run the network once.

        Args:
            inputs: One contiguous array an input, of its dtype.
            outputs: Arrays that receive the outputs, from an earlier call with the same input
                shapes; None lets the backend allocate new ones.
            stream: CUDA stream handle that the work is ordered on; host backends ignore it.

        Returns:
            The outputs: those handed in, or new ones.

        Raises:
            BackendError: The library failed, or the shapes do not fit the network.
        """

    def close(self) -> None:
        """Free the network; the backend is not used afterwards."""


class DeviceBackend(Backend, Protocol):
    """A backend whose memory is ``cuda``: it enqueues on a stream and does not wait."""

    @property
    def device(self) -> Any:
        """The `segedge.cuda.runtime.device.Device` that it runs on."""

    def output_shapes(self, input_shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes of the outputs for shapes of the inputs.

        Raises:
            BackendError: The network does not take these.
        """

    def is_capturable(self, stream: int) -> bool:
        """Whether a CUDA graph may capture `run`, once it has run plainly on that stream."""

    def fork(self) -> DeviceBackend | None:
        """The same network with scratch memory of its own, to run on another stream at once.

        None where the library cannot: then all frames share one stream. A fork's ``close`` frees
        only what is its own.
        """
