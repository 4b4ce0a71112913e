"""The one place that touches tritonclient: requests, and what goes wrong with them in our words.

The KServe protocol v2, which Triton, OpenVINO Model Server and others speak, by gRPC or HTTP:
https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.base import TensorSpec
from segedge.backends.remote.address import RemoteAddress, RemoteOptions
from segedge.machine.optional import require

_DTYPES = {
    "FP32": "float32",
    "FP16": "float16",
    "FP64": "float64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
}
_TYPES = {dtype: name for name, dtype in _DTYPES.items()}


class LinkError(Exception):
    """A request that came to nothing; its text is what the server or the system says."""


class LinkLostError(LinkError):
    """The server is not there, or says that it cannot take requests now: worth another try."""


class LinkLateError(LinkError):
    """It did not answer in time."""


@dataclass(frozen=True)
class ModelFacts:
    """What a server says of a model."""

    server: str
    """Name and version of the server: ``triton 2.51.0``."""
    version: str
    """The version that answers, or empty."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    config: Mapping[str, Any]
    """Triton's configuration; empty where the server has none to tell."""


@dataclass(frozen=True)
class Place:
    """Where in shared memory a tensor lies."""

    region: str
    size_bytes: int
    offset: int


@dataclass(frozen=True)
class Answer:
    """What came back."""

    arrays: Mapping[str, NDArray[Any]]
    """Outputs that came with the answer; those in shared memory are not among them."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of every output."""
    dtypes: Mapping[str, str]
    version: str
    """Of the model that answered, or empty."""


class Link:
    """A connection to a server, by either protocol. One request at a time."""

    def __init__(self, address: RemoteAddress, options: RemoteOptions) -> None:
        """Prepare; nothing is sent yet."""
        self._address, self._options = address, options
        self._is_grpc = address.protocol == "grpc"
        purpose = f"talk to {address.server}"
        self._lib = require(f"tritonclient.{address.protocol}", purpose=purpose)
        self._refusal = require("tritonclient.utils", purpose=purpose).InferenceServerException
        self._clients: dict[int, Any] = {}

    def _client(self) -> Any:
        """This thread's client: the HTTP client's sockets belong to the thread that made them."""
        key = 0 if self._is_grpc else threading.get_ident()
        if key not in self._clients:
            self._clients[key] = self._open()
        return self._clients[key]

    def _open(self) -> Any:
        address, options = self._address, self._options
        if self._is_grpc:
            return self._lib.InferenceServerClient(address.endpoint, ssl=address.is_encrypted)
        secure: dict[str, Any] = {}
        if address.is_encrypted:
            import ssl

            secure = {"ssl": True, "ssl_context_factory": ssl.create_default_context}
        return self._lib.InferenceServerClient(
            address.endpoint,
            connection_timeout=options.connect_seconds,
            network_timeout=options.timeout_seconds,
            **secure,
        )

    def _ask(self, method: str, *arguments: Any, seconds: float | None = None, **more: Any) -> Any:
        """One request."""
        if self._is_grpc:
            more["client_timeout"] = seconds or self._options.connect_seconds
        try:
            return getattr(self._client(), method)(*arguments, **more)
        except self._refusal as error:
            raise self._translated(error) from error
        except TimeoutError as error:
            self._drop()
            raise LinkLateError(str(error) or "timed out") from error
        except Exception as error:  # sockets, TLS, gevent and HTTP parsing each have their own
            self._drop()
            raise LinkLostError(f"{error}" or type(error).__name__) from error

    def _translated(self, error: Any) -> LinkError:
        status, text = str(error.status() or ""), str(error.message() or error)
        if status.endswith("DEADLINE_EXCEEDED"):
            return LinkLateError(text)
        if status.endswith("UNAVAILABLE") or status == "503":
            return LinkLostError(text)
        return LinkError(text)

    def _drop(self) -> None:
        """Forget the sockets of this thread: there may be half an answer in them."""
        client = self._clients.pop(0 if self._is_grpc else threading.get_ident(), None)
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def describe(self) -> ModelFacts:
        """Everything that the server says of the model."""
        json = {"as_json": True} if self._is_grpc else {}
        name, version = self._address.model, self._address.version
        server = self._ask("get_server_metadata", **json)
        facts = self._ask("get_model_metadata", name, version, **json)
        try:
            config = self._ask("get_model_config", name, version, **json)
        except (LinkLostError, LinkLateError):
            raise
        except LinkError:  # an extension of Triton's
            config = {}
        return ModelFacts(
            f"{server.get('name', 'server')} {server.get('version', '')}".strip(),
            max(facts.get("versions") or [version], key=lambda text: (len(text), text)),
            tuple(map(_spec, facts.get("inputs", ()))),
            tuple(map(_spec, facts.get("outputs", ()))),
            config.get("config", config) if isinstance(config, dict) else {},
        )

    def is_ready(self) -> bool:
        """Whether the model can be run now."""
        try:
            return bool(self._ask("is_model_ready", self._address.model, self._address.version))
        except (LinkLostError, LinkLateError):
            raise
        except LinkError:
            return False

    def check_alive(self) -> None:
        """Raise LinkError where no server answers, or something else does."""
        if not self._ask("is_server_live"):
            raise LinkLostError("something answers there, but not as an inference server")

    def index(self) -> dict[str, str]:
        """Models that the server has, to why each cannot be used (empty: it can).

        Empty where the server does not tell.
        """
        json = {"as_json": True} if self._is_grpc else {}
        try:
            found = self._ask("get_model_repository_index", **json)
        except LinkError:
            return {}
        rows = found.get("models", ()) if isinstance(found, dict) else found
        problems: dict[str, str] = {}
        for row in rows:  # one a version
            is_ready = row.get("state") == "READY" or problems.get(row["name"]) == ""
            reason = str(row.get("reason") or row.get("state") or "not loaded")
            problems[row["name"]] = "" if is_ready else reason
        return problems

    def infer(
        self,
        inputs: Sequence[tuple[TensorSpec, NDArray[Any]]],
        outputs: Sequence[str],
        *,
        places: Mapping[str, Place] | None = None,
    ) -> Answer:
        """Run the model once; an input that has a place in shared memory is not read here."""
        places = places or {}
        asked = []
        for spec, array in inputs:
            tensor = self._lib.InferInput(spec.name, list(array.shape), _TYPES[array.dtype.name])
            if (place := places.get(spec.name)) is None:
                tensor.set_data_from_numpy(array)
            else:
                tensor.set_shared_memory(place.region, place.size_bytes, place.offset)
            asked.append(tensor)
        wanted = []
        for name in outputs:
            output = self._lib.InferRequestedOutput(name)
            if (place := places.get(name)) is not None:
                output.set_shared_memory(place.region, place.size_bytes, place.offset)
            wanted.append(output)
        result = self._ask(
            "infer",
            self._address.model,
            asked,
            model_version=self._address.version,
            outputs=wanted,
            seconds=self._options.timeout_seconds,
        )
        return _answer(result, outputs, places)

    def register(self, region: str, key: str, size_bytes: int) -> None:
        """Make a region of shared memory known to the server."""
        self._ask("register_system_shared_memory", region, key, size_bytes)

    def unregister(self, region: str) -> None:
        """Let the server forget a region; without a word where it is gone."""
        with contextlib.suppress(LinkError):
            self._ask("unregister_system_shared_memory", region)

    def close(self) -> None:
        """Close the sockets."""
        for client in self._clients.values():
            with contextlib.suppress(Exception):  # one of another thread: it goes with the process
                client.close()
        self._clients.clear()


def _spec(tensor: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(None if int(axis) < 0 else int(axis) for axis in tensor.get("shape", ()))
    dtype = str(tensor.get("datatype", ""))
    return TensorSpec(tensor["name"], _DTYPES.get(dtype, dtype), shape)


def _answer(result: Any, outputs: Sequence[str], places: Mapping[str, Place]) -> Answer:
    """The answer of either protocol: a message, or a JSON object."""
    arrays, shapes, dtypes = {}, {}, {}
    response = result.get_response()
    get: Callable[[Any, str], Any] = (
        (lambda row, name: row.get(name))
        if isinstance(response, dict)
        else (lambda row, name: getattr(row, name))
    )
    for name in outputs:
        row = result.get_output(name)
        if row is None:
            continue
        shapes[name] = tuple(int(axis) for axis in get(row, "shape"))
        dtypes[name] = _DTYPES.get(get(row, "datatype"), get(row, "datatype"))
        if name not in places:
            try:
                arrays[name] = np.asarray(result.as_numpy(name))
            except ValueError as error:  # fewer bytes than its shape says
                raise LinkError(f"output {name} is damaged: {error}") from error
    return Answer(arrays, shapes, dtypes, str(get(response, "model_version") or ""))
