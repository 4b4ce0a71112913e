"""A network on a server, behind the same protocol as one on this machine.

What happens when the server is lost: a request that it refused to take, or during which the
connection broke, is sent again, for `RemoteOptions.patience_seconds` and with growing pauses; the
frames stay in order and none is lost by it. Before the next frame is sent the model is read again:
if another network or other classes answer by then, the run ends. A request that got no answer in
time is not sent again, since a server that is too slow does not get faster by more requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import (
    Arrays,
    Memory,
    Precision,
    Specs,
    TensorSpec,
    check_usable,
    run_error,
)
from segedge.backends.remote.address import RemoteAddress, RemoteOptions, parse_address
from segedge.backends.remote.facts import card_of, checked, differences, missing, unreachable
from segedge.backends.remote.link import (
    Answer,
    Link,
    LinkError,
    LinkLateError,
    LinkLostError,
    ModelFacts,
)
from segedge.backends.remote.memory import SharedTensors, sees_memory
from segedge.errors import BackendError, CardError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks for a lost server."""

log = logging.getLogger("segedge")


class RemoteBackend:
    """A model on a server that speaks KServe's protocol v2: Triton and others."""

    memory: Memory = "host"
    precision: Precision = "f32"

    def __init__(
        self, address: RemoteAddress | str | Path, *, options: RemoteOptions | None = None
    ) -> None:
        """Connect, and read what the server says of the model."""
        if not isinstance(address, RemoteAddress):
            address, said = parse_address(address)
            options = options or said
        self._address, self._options = address, options or RemoteOptions()
        self._link = Link(address, self._options)
        self._ended = threading.Event()
        self._tensors: SharedTensors | None = None
        try:
            facts = self._look()
            self.specs: Specs = (facts.inputs, facts.outputs)
            self.card = card_of(facts)
            self._version = facts.version
            self._shares = self._try_memory()
        except BaseException:
            self._link.close()
            raise
        self.description = self._describe(facts)

    def _describe(self, facts: ModelFacts) -> str:
        way = f"{'gRPC' if self._address.protocol == 'grpc' else 'HTTP'}"
        way += ", shared memory" if self._shares else ""
        version = f" version {facts.version}" if facts.version else ""
        return f"{facts.server} at {self._address.endpoint} ({way}, {self._address.model}{version})"

    def _look(self) -> ModelFacts:
        """What the server says of the model, once it is ready."""
        try:
            self._link.check_alive()
            if not self._link.is_ready():
                raise missing(self._address, self._link.index())
            return checked(self._address, self._link.describe())
        except LinkError as error:
            raise unreachable(self._address, self._options, error) from error

    def _try_memory(self) -> bool:
        if self._options.memory == "wire":
            return False
        if self._options.memory == "auto" and not self._address.is_local:
            return False
        refusal = sees_memory(self._link)
        if refusal and self._options.memory == "shm":
            raise BackendError(
                f"{self._address.server} does not see the shared memory of this machine",
                facts={"says": refusal},
                fix="run it on this machine (a container with --ipc=host), or --backend"
                " remote:wire",
            )
        return not refusal

    def run(self, inputs: Arrays, outputs: Arrays | None = None, *, stream: int = 0) -> Arrays:
        """Run once; see `Backend.run`."""
        check_usable(not self._ended.is_set(), self.description)
        pairs = list(zip(self.specs[0], map(np.ascontiguousarray, inputs), strict=True))
        try:
            return self._run(pairs, outputs)
        except LinkLostError as lost:
            return self._run_again(pairs, outputs, lost)

    def _run(
        self,
        pairs: Sequence[tuple[TensorSpec, NDArray[Any]]],
        outputs: Arrays | None,
    ) -> Arrays:
        """One try."""
        names = [spec.name for spec in self.specs[1]]
        shared = self._tensors if self._tensors and self._tensors.fits(pairs) else None
        try:
            if shared is not None:
                answer = self._infer_shared(shared, pairs, names)
            else:
                answer = self._link.infer(pairs, names)
            self._check_version(answer)
        except LinkLateError as error:
            self._forget_memory()  # the server may yet write there
            raise self._late(error) from error
        except LinkLostError:
            raise
        except LinkError as error:
            raise self._refused(pairs, error) from error
        self._check_shapes(answer)
        in_place = shared is not None and not answer.arrays
        arrays = [shared.view(n) if in_place and shared else answer.arrays[n] for n in names]
        made = _copied(arrays, outputs, are_views=in_place)
        if self._shares and shared is None:
            self._share(pairs, made)
        return made

    def _infer_shared(
        self,
        shared: SharedTensors,
        pairs: Sequence[tuple[TensorSpec, NDArray[Any]]],
        names: Sequence[str],
    ) -> Answer:
        """Through shared memory; by wire where the server has forgotten the region."""
        shared.write(pairs)
        try:
            answer = self._link.infer(pairs, names, places=shared.places)
            if shared.holds(answer):
                return answer
        except (LinkLostError, LinkLateError):
            raise
        except LinkError as error:
            log.info("%s: not through shared memory: %s", self._address.server, error)
            # A server that was started again may hold another model under the same name.
            self._check_model()
        self._forget_memory()
        return self._link.infer(pairs, names)

    def _share(
        self, pairs: Sequence[tuple[TensorSpec, NDArray[Any]]], made: Sequence[NDArray[Any]]
    ) -> None:
        """Prepare shared memory for further runs with these shapes."""
        self._forget_memory()
        try:
            self._tensors = SharedTensors(
                self._link,
                [(spec, array.shape) for spec, array in pairs],
                [(spec, a.shape) for spec, a in zip(self.specs[1], made, strict=True)],
            )
        except LinkError as error:
            log.info("%s: not through shared memory: %s", self._address.server, error)
            self._shares = False

    def _forget_memory(self) -> None:
        if self._tensors is not None:
            self._tensors.close()
            self._tensors = None

    def _run_again(
        self,
        pairs: Sequence[tuple[TensorSpec, NDArray[Any]]],
        outputs: Arrays | None,
        lost: LinkLostError,
    ) -> Arrays:
        """Look for a lost server until it is back or the patience ends."""
        patience = self._options.patience_seconds
        if patience:
            log.info("%s is lost (%s): looking for it", self._address.server, lost)
        begun = time.monotonic()
        pause = _FIRST_PAUSE
        last: Exception = lost
        while time.monotonic() - begun + pause <= patience and not self._ended.wait(pause):
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                self._check_model()
                self._forget_memory()
                made = self._run(pairs, outputs)
            except LinkError as error:
                last = error
                continue
            log.info("%s is back", self._address.server)
            return made
        raise BackendError(
            f"{self._address.server} was lost and did not come back",
            facts={"says": str(last), "waited": f"{patience:g} s"},
            fix="start it again, or wait longer:"
            f" {self._address}?patience={max(60.0, 4 * patience):g}",
        ) from last

    def _check_model(self) -> None:
        """That the server holds the network that it held, and is ready."""
        if not self._link.is_ready():
            raise LinkLostError(f"{self._address.model} is not ready")
        facts = self._link.describe()
        if (facts.inputs, facts.outputs) != self.specs:
            raise BackendError(
                f"{self._address} is another network now",
                facts={
                    "expected": ", ".join(map(str, (*self.specs[0], *self.specs[1]))),
                    "found": ", ".join(map(str, (*facts.inputs, *facts.outputs))),
                },
                fix="start the run again",
            )
        card = card_of(facts)
        differing = differences(self.card, card)
        if differing:
            raise CardError(
                f"{self._address} has another card now",
                facts={"differ": ", ".join(differing)},
                fix="start the run again",
            )
        if facts.version != self._version:
            log.info("%s is version %s now", self._address, facts.version)
        self._version = facts.version

    def _check_version(self, answer: Answer) -> None:
        """A new version on a running server must be of the same classes."""
        if answer.version and self._version and answer.version != self._version:
            self._check_model()
            self._version = answer.version

    def _check_shapes(self, answer: Answer) -> None:
        for spec in self.specs[1]:
            shape, dtype = answer.shapes.get(spec.name), answer.dtypes.get(spec.name)
            fits = shape is not None and len(shape) == len(spec.shape)
            if (
                not fits
                or dtype != spec.dtype
                or any(b not in (None, a) for a, b in zip(shape or (), spec.shape, strict=False))
            ):
                found = (
                    "nothing" if shape is None else str(TensorSpec(spec.name, str(dtype), shape))
                )
                raise BackendError(
                    f"{self._address} answers another shape than it promised",
                    facts={"expected": str(spec), "found": found},
                    fix="look at the server's log, and at its config.pbtxt",
                )

    def _late(self, error: LinkLateError) -> BackendError:
        seconds = self._options.timeout_seconds
        return BackendError(
            f"{self._address} did not answer within {seconds:g} s",
            facts={"says": str(error)},
            fix=f"wait longer: {self._address}?timeout={3 * seconds:g}, or give the server more"
            " instances",
        )

    def _refused(
        self, pairs: Sequence[tuple[TensorSpec, NDArray[Any]]], error: LinkError
    ) -> BackendError:
        says = str(error).partition("\n")[0][:300]
        inputs = [array for _, array in pairs]
        return run_error(
            f"{self._address} failed while running the network", inputs, self.specs, says
        )

    def close(self) -> None:
        """Let the server forget the shared memory, and close the connection."""
        self._ended.set()
        self._forget_memory()
        self._link.close()


def _copied(arrays: Sequence[NDArray[Any]], outputs: Arrays | None, *, are_views: bool) -> Arrays:
    """Into the outputs, or into arrays of the caller's own, who may hand them in next time."""
    if outputs is None:
        return [a.copy() if are_views or not a.flags.writeable else a for a in arrays]
    for array, out in zip(arrays, outputs, strict=True):
        if array.shape != out.shape:
            raise BackendError(
                "the server answers another shape than before",
                facts={"expected": str(out.shape), "found": str(array.shape)},
            )
        np.copyto(out, array)
    return outputs
