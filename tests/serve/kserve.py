"""A small server that speaks KServe's protocol v2, gRPC and HTTP, with real networks behind it.

It serves a repository as `segedge triton` writes it: the networks of the onnxruntime backend, by
ONNX Runtime. The gRPC service is the one that tritonclient generates from the protocol's own
definition; HTTP has the binary tensors, and both have the shared memory, of Triton's extensions.
What a test wants to go wrong it puts into `Networks.before`.
"""

from __future__ import annotations

import json
import mmap
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as service
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from segedge.serve.config import parse_text


class RefusedError(Exception):
    """What a server says no with."""

    def __init__(self, text: str, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Networks:
    """What both protocols share: the repository, the regions, and the tests' mischief."""

    repository: Path
    before: Callable[[dict[str, np.ndarray]], None] = lambda feeds: None
    """Called with the inputs of each request."""
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda outputs: outputs
    """Applied to the outputs of each request."""
    has_config: bool = True
    """Whether it tells configurations and its models, as Triton does."""
    takes_memory: bool = True
    """Whether it sees this machine's shared memory."""
    ready: bool = True
    requests: int = 0
    shared: int = 0
    """Tensors that came or went through shared memory."""
    regions: dict[str, mmap.mmap] = field(default_factory=dict)
    _sessions: dict[Path, Any] = field(default_factory=dict)

    def config(self, name: str) -> Any:
        path = self.repository / name / "config.pbtxt"
        if not path.is_file():
            raise RefusedError(f"Request for unknown model: '{name}' is not found", "NOT_FOUND")
        return parse_text(path.read_text(encoding="utf-8"))

    def version(self, name: str, asked: str = "") -> str:
        self.config(name)
        there = [p.name for p in (self.repository / name).iterdir() if p.name.isdigit()]
        if asked and asked not in there:
            raise RefusedError(f"unknown version {asked} of '{name}'", "NOT_FOUND")
        return asked or max(there, key=int)

    def is_ready(self, name: str, version: str) -> bool:
        try:
            self.version(name, version)
        except RefusedError:
            return False
        return self.ready and self.config(name).backend != "python"

    def index(self) -> list[dict[str, str]]:
        rows = []
        for path in sorted(self.repository.iterdir()):
            runs = self.is_ready(path.name, "")
            reason = "" if runs else "no module named segedge"
            state = "READY" if runs else "UNAVAILABLE"
            rows.append({"name": path.name, "version": "2", "state": state, "reason": reason})
            row = {"name": path.name, "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
            rows += [row] if runs else []
        return rows

    def metadata(self, name: str) -> dict[str, Any]:
        config = self.config(name)
        batch = [-1] if config.max_batch_size else []

        def rows(tensors: Any) -> list[dict[str, Any]]:
            kinds = config.DESCRIPTOR.file.enum_types_by_name["DataType"]
            return [
                {
                    "name": t.name,
                    "datatype": kinds.values_by_number[t.data_type].name.removeprefix("TYPE_"),
                    "shape": [*batch, *t.dims],
                }
                for t in tensors
            ]

        return {
            "name": name,
            "versions": [self.version(name)],
            "platform": config.backend,
            "inputs": rows(config.input),
            "outputs": rows(config.output),
        }

    def run(self, name: str, version: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        path = self.repository / name / self.version(name, version) / "model.onnx"
        self.requests += 1
        self.before(feeds)
        if path not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._sessions[path] = onnxruntime.InferenceSession(str(path), options)
        session = self._sessions[path]
        names = [output.name for output in session.get_outputs()]
        try:
            made = session.run(names, feeds)
        except Exception as error:
            raise RefusedError(f"onnx runtime error: {error}", "INTERNAL") from error
        return self.change(dict(zip(names, made, strict=True)))

    def register(self, name: str, key: str) -> None:
        if not self.takes_memory:
            raise RefusedError(f"Unable to open shared memory region: '{key}'")
        with Path("/dev/shm", key.lstrip("/")).open("r+b") as file:
            self.regions[name] = mmap.mmap(file.fileno(), 0)

    def unregister(self, name: str) -> None:
        for key in [name] if name else list(self.regions):
            if key in self.regions:
                self.regions.pop(key).close()

    def view(self, place: dict[str, Any], shape: list[int], dtype: Any) -> np.ndarray:
        region = place["shared_memory_region"]
        if region not in self.regions:
            raise RefusedError(f"Unable to find shared memory region: '{region}'")
        self.shared += 1
        offset = int(place.get("shared_memory_offset", 0))
        return np.ndarray(shape, dtype, buffer=self.regions[region], offset=offset)

    def forget(self) -> None:
        """As a server that was started again."""
        self.unregister("")


class _Grpc(service.GRPCInferenceServiceServicer):
    """The generated service; names are the protocol's."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    def _guarded(self, context: Any, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except RefusedError as error:
            context.abort(getattr(grpc.StatusCode, error.status), str(error))

    def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        ready = self.networks.is_ready(request.name, request.version)
        return messages.ModelReadyResponse(ready=ready)

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.ServerMetadataResponse(name="kserve-test", version="1.0")

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._guarded(
            context,
            lambda: messages.ModelMetadataResponse(**self.networks.metadata(request.name)),
        )

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self.networks.has_config:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        config = self._guarded(context, lambda: self.networks.config(request.name))
        return messages.ModelConfigResponse(config=config)

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self.networks.has_config:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        return messages.RepositoryIndexResponse(models=self.networks.index())

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._guarded(context, lambda: self.networks.register(request.name, request.key))
        return messages.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.networks.unregister(request.name)
        return messages.SystemSharedMemoryUnregisterResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._guarded(context, lambda: self._infer(request))

    def _infer(self, request: Any) -> Any:
        raw = iter(request.raw_input_contents)
        feeds = {}
        for tensor in request.inputs:
            place = MessageToDict(tensor)["parameters"] if tensor.parameters else None
            dtype = triton_to_np_dtype(tensor.datatype)
            if place:
                feeds[tensor.name] = self.networks.view(_flat(place), list(tensor.shape), dtype)
            else:
                feeds[tensor.name] = np.frombuffer(next(raw), dtype).reshape(tensor.shape)
        made = self.networks.run(request.model_name, request.model_version, feeds)
        version = self.networks.version(request.model_name, request.model_version)
        answer = messages.ModelInferResponse(model_name=request.model_name, model_version=version)
        for output in request.outputs:
            array = made[output.name]
            answer.outputs.add(
                name=output.name,
                datatype=np_to_triton_dtype(array.dtype),
                shape=array.shape,
            )
            place = MessageToDict(output)["parameters"] if output.parameters else None
            if place:
                self.networks.view(_flat(place), list(array.shape), array.dtype)[...] = array
            else:
                answer.raw_output_contents.append(array.tobytes())
        return answer


def _flat(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: next(iter(value.values())) for name, value in parameters.items()}


@contextmanager
def grpc_server(networks: Networks, *, port: int = 0) -> Iterator[int]:
    """A gRPC server on loopback; gives its port."""
    any_size = [(f"grpc.max_{way}_message_length", -1) for way in ("receive", "send")]
    options = [("grpc.so_reuseport", 0), *any_size]
    server = grpc.server(ThreadPoolExecutor(4), options=options)
    service.add_GRPCInferenceServiceServicer_to_server(_Grpc(networks), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield bound
    finally:
        networks.forget()
        server.stop(None).wait()


@contextmanager
def http_server(networks: Networks, *, port: int = 0) -> Iterator[int]:
    """An HTTP server on loopback; gives its port."""
    import uvicorn

    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    listener = socket.create_server(("127.0.0.1", port))
    server = Server(uvicorn.Config(_application(networks), log_level="critical", lifespan="off"))
    server.config.timeout_graceful_shutdown = 0
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield listener.getsockname()[1]
    finally:
        networks.forget()
        server.should_exit = server.force_exit = True
        thread.join(30)
        listener.close()


def _application(networks: Networks) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def route(path: str, work: Callable[..., Any], method: str = "GET") -> Route:
        async def answer(request: Request) -> Response:
            from starlette.concurrency import run_in_threadpool

            body = await request.body()
            try:
                made = await run_in_threadpool(work, request, body)
            except RefusedError as error:
                code = {"NOT_FOUND": 404, "UNAVAILABLE": 503, "INTERNAL": 500}.get(error.status)
                return JSONResponse({"error": str(error)}, code or 400)
            return made if isinstance(made, Response) else JSONResponse(made)

        return Route(path, answer, methods=[method])

    def config(request: Request, body: bytes) -> Any:
        if not networks.has_config:
            raise RefusedError("no such path", "NOT_FOUND")
        found = networks.config(request.path_params["name"])
        return MessageToDict(found, preserving_proto_field_name=True)

    def index(request: Request, body: bytes) -> Any:
        if not networks.has_config:
            raise RefusedError("no such path", "NOT_FOUND")
        return networks.index()

    def ready(request: Request, body: bytes) -> Response:
        path = request.path_params
        ok = networks.is_ready(path["name"], path.get("version", ""))
        return Response(status_code=200 if ok else 400)

    def register(request: Request, body: bytes) -> Any:
        networks.register(request.path_params["region"], json.loads(body)["key"])
        return {}

    def unregister(request: Request, body: bytes) -> Any:
        networks.unregister(request.path_params["region"])
        return {}

    memory = "/v2/systemsharedmemory/region/{region}"
    routes = [
        route("/v2/health/live", lambda request, body: Response()),
        route("/v2", lambda request, body: {"name": "kserve-test", "version": "1.0"}),
        route("/v2/repository/index", index, "POST"),
        route(f"{memory}/register", register, "POST"),
        route(f"{memory}/unregister", unregister, "POST"),
    ]
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            route(f"{model}/ready", ready),
            route(f"{model}/config", config),
            route(f"{model}/infer", lambda r, b: _http_infer(networks, r, b), "POST"),
            route(model, lambda r, b: networks.metadata(r.path_params["name"])),
        ]
    return Starlette(routes=routes)


def _http_infer(networks: Networks, request: Any, body: bytes) -> Any:
    """JSON first, then the tensors' bytes, as the binary extension has it; both ways."""
    from starlette.responses import Response

    length = int(request.headers.get("inference-header-content-length", len(body)))
    head, raw, offset = json.loads(body[:length]), memoryview(body)[length:], 0
    feeds = {}
    for tensor in head["inputs"]:
        options, dtype = tensor["parameters"], triton_to_np_dtype(tensor["datatype"])
        if "shared_memory_region" in options:
            feeds[tensor["name"]] = networks.view(options, tensor["shape"], dtype)
            continue
        size = options["binary_data_size"]
        array = np.frombuffer(raw[offset : offset + size], dtype)
        feeds[tensor["name"]], offset = array.reshape(tensor["shape"]), offset + size
    name, asked = request.path_params["name"], request.path_params.get("version", "")
    made = networks.run(name, asked, feeds)
    rows, blobs = [], []
    for output in head["outputs"]:
        array, options = made[output["name"]], output["parameters"]
        row = {
            "name": output["name"],
            "datatype": np_to_triton_dtype(array.dtype),
            "shape": list(array.shape),
        }
        if "shared_memory_region" in options:
            networks.view(options, list(array.shape), array.dtype)[...] = array
        else:
            blobs.append(array.tobytes())
            row["parameters"] = {"binary_data_size": len(blobs[-1])}
        rows.append(row)
    answer = {"model_name": name, "model_version": networks.version(name, asked), "outputs": rows}
    text = json.dumps(answer).encode()
    return Response(
        text + b"".join(blobs), headers={"Inference-Header-Content-Length": str(len(text))}
    )
