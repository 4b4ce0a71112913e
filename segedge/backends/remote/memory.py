"""Tensors in shared memory: a server on the same machine reads and writes them in place.

Triton's extension for system shared memory:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import TensorSpec
from segedge.backends.remote.link import Answer, Link, LinkError, Place
from segedge.machine.optional import require

_ALIGNMENT = 64


class SharedTensors:
    """One region with a place for each input and output of certain shapes."""

    def __init__(
        self,
        link: Link,
        inputs: Sequence[tuple[TensorSpec, tuple[int, ...]]],
        outputs: Sequence[tuple[TensorSpec, tuple[int, ...]]],
    ) -> None:
        """Make the region and tell the server."""
        self._link = link
        self._lib = require("tritonclient.utils.shared_memory", purpose="share memory")
        self.places: dict[str, Place] = {}
        self.shapes = {spec.name: shape for spec, shape in (*inputs, *outputs)}
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec, _ in (*inputs, *outputs)}
        name = f"segedge-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        offset = 0
        for spec, shape in (*inputs, *outputs):
            size = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
            self.places[spec.name] = Place(name, size, offset)
            offset += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._name = name
        self._region = self._create(name, max(offset, 1))
        try:
            link.register(name, f"/{name}", max(offset, 1))
        except LinkError:
            self._destroy()
            raise

    def _create(self, name: str, size: int) -> Any:
        try:
            return self._lib.create_shared_memory_region(name, name, size, create_only=True)
        except self._lib.SharedMemoryException as error:
            cause = error.__cause__ or error
            raise LinkError(f"no shared memory of {size / 1e6:.1f} MB: {cause}") from error

    def fits(self, inputs: Sequence[tuple[TensorSpec, NDArray[Any]]]) -> bool:
        """Whether the places are those of these inputs."""
        return all(self.shapes.get(spec.name) == array.shape for spec, array in inputs)

    def write(self, inputs: Sequence[tuple[TensorSpec, NDArray[Any]]]) -> None:
        """Put the inputs in their places."""
        for spec, array in inputs:
            np.copyto(self.view(spec.name), array)

    def holds(self, answer: Answer) -> bool:
        """Whether the answer's outputs have the shapes of their places."""
        return all(
            self.shapes.get(name) == shape and self._dtypes[name].name == answer.dtypes[name]
            for name, shape in answer.shapes.items()
        )

    def view(self, name: str) -> NDArray[Any]:
        """A tensor where it lies: the next run writes over it."""
        place = self.places[name]
        array: NDArray[Any] = self._lib.get_contents_as_numpy(
            self._region, self._dtypes[name], self.shapes[name], place.offset
        )
        return array

    def close(self) -> None:
        """Let the server forget the region, and free it."""
        self._link.unregister(self._name)
        self._destroy()

    def _destroy(self) -> None:
        self._lib.destroy_shared_memory_region(self._region)


def sees_memory(link: Link) -> str:
    """Whether the server sees this machine's shared memory: empty, or why not."""
    probe = TensorSpec("probe", "uint8", (1,))
    try:
        SharedTensors(link, [(probe, (1,))], []).close()
    except LinkError as error:
        return str(error)
    return ""
