"""The real Triton server of PyTriton's wheel, with a repository as segedge writes it.

The wheel holds the server and its python backend, no onnxruntime backend: `ONNXRUNTIME` below is
one, in Python, for the server's own mechanism of backends in Python. Everything else (schema,
scheduler, dynamic batching, warm-up, ensembles, protocols) is the server's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import started

PYTRITON = "SEGEDGE_PYTRITON"
"""Environment variable: a site-packages folder with nvidia-pytriton, and NumPy 1 where its python
backend needs that; without it the one in this environment is used."""

ONNXRUNTIME = """
import json, pathlib
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = pathlib.Path(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options)
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batches = config["max_batch_size"] > 0

    def execute(self, requests):
        groups = [requests] if self.batches else [[request] for request in requests]
        return [response for group in groups for response in self.run(group)]

    def run(self, requests):
        feeds = {}
        for name in self.inputs:
            tensors = [triton.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            feeds[name] = np.concatenate(tensors)
        counts = [len(triton.get_input_tensor_by_name(r, self.inputs[0]).as_numpy())
                  for r in requests]
        made = self.session.run(self.outputs, feeds)
        ends = np.cumsum(counts)
        for begin, end in zip(ends - counts, ends):
            yield triton.InferenceResponse(
                [triton.Tensor(n, np.ascontiguousarray(a[begin:end]))
                 for n, a in zip(self.outputs, made)]
            )
"""


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    process: subprocess.Popen[str]
    http: str
    """host:port"""
    grpc: str
    log: Path


def why_not() -> str | None:
    """Why there is no server here, or None where there is one."""
    site = _site_packages()
    if site is None or not (site / "pytriton" / "tritonserver").is_dir():
        return f"nvidia-pytriton, whose wheel holds the server, is not installed; or set {PYTRITON}"
    return None


def _site_packages() -> Path | None:
    if PYTRITON in os.environ:
        return Path(os.environ[PYTRITON])
    found = importlib.util.find_spec("pytriton")
    return Path(found.origin).parents[1] if found and found.origin else None


@contextlib.contextmanager
def serve(repository: Path, folder: Path) -> Iterator[Server]:
    """A server of a repository, on free ports of loopback, ready within two minutes."""
    site = _site_packages()
    assert site is not None
    root = folder / "triton"
    shutil.copytree(site / "pytriton" / "tritonserver", root, symlinks=True)
    backends = root / "backends"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = "triton_python_backend_stub"
    shutil.copy2(root / "python_backend_stubs" / version / stub, backends / "python" / stub)
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(ONNXRUNTIME, encoding="utf-8")
    environment = dict(os.environ)
    libraries = [sysconfig.get_config_var("LIBDIR"), str(site / "nvidia_pytriton.libs")]
    environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    environment["PATH"] = f"{_python(folder / 'python', site)}:{environment['PATH']}"
    ports = _free_ports(3)
    log = folder / "log"
    command = [str(root / "bin" / "tritonserver"), "--model-repository", str(repository)]
    command += ["--backend-directory", str(backends)]
    for name, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{name}-port", str(port), f"--{name}-address", "127.0.0.1"]
    with (
        log.open("wb") as stream,
        started(command, env=environment, stdout=stream, stderr=stream) as process,
    ):
        server = Server(process, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", log)
        _wait(server)
        yield server
        process.terminate()
        process.wait(timeout=60)


def _python(folder: Path, site: Path) -> Path:
    """A Python for the server, which ignores PYTHONPATH: this environment and this segedge."""
    venv.create(folder, with_pip=False, symlinks=True)
    inside = next((folder / "lib").glob("python*")) / "site-packages"
    here = sysconfig.get_path("purelib")
    numpy_1 = [str(site)] if list(site.glob("numpy-1.*")) else []
    lines = [str(Path(__file__).parents[2]), *numpy_1, here]
    (inside / "segedge-tests.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "bin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait(server: Server) -> None:
    """Until it is ready; a server that ends tells why in its log."""
    import time
    import urllib.request

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.process.poll() is None:
        url = f"http://{server.http}/v2/health/ready"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError(server.log.read_text(errors="replace")[-4000:])
