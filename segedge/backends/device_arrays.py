"""What all backends whose memory is ``cuda`` check of the arrays that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from segedge.backends.base import TensorSpec
from segedge.errors import BackendError


class OneStream:
    """A library whose work cannot be captured, nor run on several streams at once."""

    def is_capturable(self, stream: int) -> bool:
        """Never."""
        return False

    def fork(self) -> None:
        """None: all frames share its stream."""


def device_pointer(spec: TensorSpec, array: Any) -> tuple[int, tuple[int, ...]]:
    """Address and shape of an array with ``__cuda_array_interface__`` that fits the network."""
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        raise BackendError(
            f"tensor {spec.name} must be in GPU memory",
            facts={"found": type(array).__name__, "expected": "__cuda_array_interface__"},
        )
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"]).name
    fits = len(shape) == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape, shape, strict=True)
    )
    if not fits or dtype != spec.dtype or interface.get("strides") is not None:
        raise BackendError(
            f"tensor {spec.name} does not fit the network",
            facts={
                "found": f"{'x'.join(map(str, shape))} {dtype}"
                + (", with strides" if interface.get("strides") is not None else ""),
                "expected": f"{spec}, contiguous",
            },
        )
    return int(interface["data"][0]), shape
