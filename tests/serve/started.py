"""Servers that a test starts and stops, in both protocols."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from segedge.remote import RemoteBackend, RemoteOptions, parse_address
from tests.serve.kserve import Networks, grpc_server, http_server

SERVERS = {"grpc": grpc_server, "http": http_server}
IMAGE = np.linspace(-2, 2, 1 * 3 * 48 * 64, dtype=np.float32).reshape(1, 3, 48, 64)


class Started:
    """Servers that a test starts and stops."""

    def __init__(self, protocol: str, networks: Networks, stack: ExitStack) -> None:
        self.protocol, self.networks, self._stack = protocol, networks, stack
        self.port = 0
        self.start()

    def start(self) -> None:
        self._own = ExitStack()
        self._stack.push(self._own)
        context = SERVERS[self.protocol](self.networks, port=self.port)
        self.port = self._own.enter_context(context)

    def stop(self) -> None:
        self._own.close()

    def address(self, model: str = "small") -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}/{model}"

    def open(self, model: str = "small", **options: Any) -> RemoteBackend:
        address, _ = parse_address(self.address(model))
        backend = RemoteBackend(address, options=RemoteOptions(**options))
        self._stack.callback(backend.close)
        return backend
