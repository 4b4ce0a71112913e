"""What it costs to have the network on a server of the same machine.

The network is next to nothing (mean, then a 1x1 convolution), its tensors are those of a real one:
1 x 3 x 512 x 1024 in (6.3 MB), 1 x 19 x 64 x 128 out (0.6 MB), float32. So what is above `local` is
the way: copies, protocol, server. By gRPC and HTTP, each with tensors in the request and with
tensors in shared memory, from two servers:

- `triton`: NVIDIA's, from PyTriton's wheel (nvidia-pytriton, or SEGEDGE_PYTRITON names a
  site-packages folder with it). The wheel has no onnxruntime backend: ONNX Runtime runs in its
  Python backend, which adds a process and a copy each way. The C++ backend has neither.
- `light`: the small server of the tests, a process in Python.

    python benchmarks/remote.py [--rounds 3] [--seconds 2] [--save]
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Samples, Stopwatch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for the servers of the tests

from segedge.backends.base import Backend  # noqa: E402
from segedge.card.card import ModelCard  # noqa: E402
from segedge.card.labels import label_set  # noqa: E402
from segedge.serve.options import TritonOptions  # noqa: E402
from segedge.serve.repository import write_repository  # noqa: E402

SHAPE, CHANNELS, STRIDE = (1, 3, 512, 1024), 19, 8
LOCAL = "local"
WAYS = ("grpc-shm", "grpc", "http-shm", "http")
SERVERS = ("triton", "light")
INCLUDES = {"network": "a tensor in memory to logits in memory that is already there"}


def write_network(path: Path) -> Path:
    """The network, with its card."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((CHANNELS, 3, 1, 1)).astype(np.float32)
    grid = [1, CHANNELS, SHAPE[2] // STRIDE, SHAPE[3] // STRIDE]
    pool = {"kernel_shape": [STRIDE, STRIDE], "strides": [STRIDE, STRIDE]}
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["image"], ["mean"], **pool),
            helper.make_node("Conv", ["mean", "weights"], ["logits"]),
        ],
        "light",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(SHAPE))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, grid)],
        [numpy_helper.from_array(weights, "weights")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    city = label_set("cityscapes")
    card = ModelCard(city.names, city.palette_rgb, SHAPE[2], SHAPE[3], stride=STRIDE)
    helper.set_model_props(proto, card.to_metadata())
    onnx.save(proto, path)
    return path


def worker(
    variant: str, model: Path, servers: dict[str, dict[str, str]], seconds: float
) -> Samples:
    """One variant: the same tensors again and again."""
    backend = open_variant(variant, model, servers)
    image = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    outputs = backend.run([image])
    check_equal(outputs, model, image)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        backend.run([image], outputs)
        return {"network": watch.lap()}

    samples = harness.measure(step, seconds=seconds)
    backend.close()
    return samples


def open_variant(variant: str, model: Path, servers: dict[str, dict[str, str]]) -> Backend:
    """The backend of a variant: this machine's, or one that asks a server."""
    if variant == LOCAL:
        from segedge.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(model, threads=1)
    from segedge.remote import RemoteBackend, RemoteOptions, parse_address

    server, way = variant.split()
    protocol, _, memory = way.partition("-")
    address, _ = parse_address(f"{protocol}://{servers[server][protocol]}/{model.stem}")
    return RemoteBackend(address, options=RemoteOptions(memory="shm" if memory else "wire"))


def check_equal(outputs: Any, model: Path, image: np.ndarray) -> None:
    """What is timed gives what ONNX Runtime gives here, to the bit."""
    local = open_variant(LOCAL, model, {})
    if not np.array_equal(local.run([image])[0], outputs[0]):
        raise SystemExit("the logits differ from the local ones")
    local.close()


def serve_light(repository: Path) -> None:
    """The light server, until its standard input is closed."""
    from tests.serve.kserve import Networks, grpc_server, http_server

    networks = Networks(repository)
    with grpc_server(networks) as grpc, http_server(networks) as http:
        print(json.dumps({"grpc": f"127.0.0.1:{grpc}", "http": f"127.0.0.1:{http}"}), flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def light(repository: Path) -> Iterator[dict[str, str]]:
    """The light server in a process of its own; gives its addresses."""
    command = [sys.executable, __file__, "--serve", str(repository)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


@contextlib.contextmanager
def triton(repository: Path, folder: Path) -> Iterator[dict[str, str]]:
    """NVIDIA's server; gives its addresses."""
    from tests.serve import triton_server

    if reason := triton_server.why_not():
        raise LookupError(reason)
    with triton_server.serve(repository, folder) as server:
        yield {"grpc": server.grpc, "http": server.http}


def main() -> None:
    """Measure, print, write the file if asked."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=2.0)
    parser.add_argument("--serve", type=Path, help="serve a repository (internal)")
    parser.add_argument("--model", type=Path, help="the network (internal)")
    parser.add_argument("--servers", default="{}", help="addresses (internal)")
    options = harness.parsed(parser)
    if options.serve:
        serve_light(options.serve)
        return
    if options.variant:
        servers = json.loads(options.servers)
        print(json.dumps(worker(options.variant, options.model, servers, options.seconds)))
        return
    run = harness.Run.begin(options)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = write_network(Path(folder) / "light.onnx")
        repository = Path(folder) / "repository"
        write_repository(model, repository, options=TritonOptions(frames=False))
        servers, skipped = {"light": stack.enter_context(light(repository))}, {}
        try:
            servers["triton"] = stack.enter_context(triton(repository, Path(folder)))
        except LookupError as error:
            skipped["triton"] = str(error)
        variants = [LOCAL, *(f"{s} {way}" for s in SERVERS if s in servers for way in WAYS)]
        also = {"model": model, "servers": json.dumps(servers)}
        turns = run.in_turn(__file__, variants, carry=("seconds",), also=also)
    report(turns, skipped)
    output = [1, CHANNELS, SHAPE[2] // STRIDE, SHAPE[3] // STRIDE]
    settings = {"input": list(SHAPE), "output": output}
    run.write("remote", INCLUDES, turns.figures({}), settings, skipped={**skipped, **turns.skipped})


def report(turns: harness.Turns, skipped: dict[str, str]) -> None:
    """The table: each way, and what it takes more than the local one."""
    base = turns.median(LOCAL, "network")
    print(f"\n{'':18}{'network':>12}{'more than local':>18}")
    for variant in turns.samples:
        found = turns.median(variant, "network")
        if found is not None and base is not None:
            print(f"{variant:18}{found:9.2f} ms{found - base:15.2f} ms")
    for name, reason in skipped.items():
        print(f"{name:18}skipped: {reason}")


if __name__ == "__main__":
    main()
