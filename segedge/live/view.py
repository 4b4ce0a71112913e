"""LiveView: the server behind the page, in a thread of its own. The door to uvicorn."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from segedge.errors import UsageError
from segedge.frames.closing import Closing
from segedge.live.access import Access
from segedge.live.address import DEFAULT_HOST, DEFAULT_PORT, Address, listen
from segedge.live.app import make_app
from segedge.live.channel import Channel, LiveSink
from segedge.live.hub import Hub
from segedge.live.stats import plain
from segedge.machine.optional import require

_GRACE_SECONDS = 1
"""How long a viewer may take to say good-bye."""


class LiveView(Closing):
    """A page in the browser with what one or several pipelines see.

    Listens from construction until `close`. Each source gets a sink of its own from `sink`.
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        token: str | None = None,
        title: str = "segedge",
    ) -> None:
        """Start the server.

        Args:
            host: Where to listen; the default is reachable from this machine alone.
            port: 0 takes any free one, see `address`.
            token: What viewers must know. None makes a random one where others can reach the
                server, and needs none on loopback.
            title: The page's.

        Raises:
            MissingDependencyError: Starlette, uvicorn or websockets is not installed.
            SinkError: The port is taken, or the host is not this machine.
            UsageError: The token is empty or cannot be part of an address.
        """
        purpose = "serve the live view"
        require("websockets", purpose=purpose)
        uvicorn = require("uvicorn", purpose=purpose)
        require("starlette", purpose=purpose)
        _check_token(token)
        self._socket = listen(Address(host, port))
        self.address = Address(host, self._socket.getsockname()[1])
        """Where it listens, with the real port."""
        if token is None and not self.address.is_loopback:
            token = secrets.token_urlsafe(16)
        self.token = token
        """What viewers must know, or None."""
        self._hub = Hub(title)
        config = uvicorn.Config(
            make_app(self._hub, Access(self.address, token)),
            ws="auto",
            ws_max_size=1 << 16,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="segedge-live", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What to type into a browser, with the token.

        A server that listens on every address of this machine goes by the machine's name.
        """
        import socket

        address = self.address
        if address.is_any:
            address = Address(socket.gethostname(), address.port)
        query = f"?token={self.token}" if self.token else ""
        return f"http://{address}/{query}"

    @property
    def viewers(self) -> int:
        """Open pages."""
        return len(self._hub.viewers)

    def sink(self, name: str, *, model: str = "", backend: str = "") -> LiveSink:
        """A sink for one source; the page shows all of them.

        Args:
            name: The source's, as people read it; a second one of that name gets a number.
            model: The model's file name, for the page.
            backend: The backend's description, for the page.
        """
        names = {channel.name for channel in self._hub.channels}
        unique, number = name, 2
        while unique in names:
            unique, number = f"{name} ({number})", number + 1
        channel = Channel(
            unique,
            len(self._hub.channels),
            model=model,
            backend=backend,
            on_change=self._hub.notify_sources,
            on_message=self._hub.notify_message,
        )
        self._hub.channels.append(channel)
        self._hub.notify_sources()
        return LiveSink(channel)

    def publish(self, stats: Mapping[str, Any], *, source: LiveSink | None = None) -> None:
        """Tell the page and `/metrics` the pipeline's own numbers, about once a second.

        Args:
            stats: Of a source: ``read``, ``written``, ``dropped``, ``failed`` (counts since the
                start), ``fps``, ``latency_ms`` (p50, p95, p99, or a `timing.Summary`);
                what is missing comes from the frames that the view has seen. Of the process
                (``source`` None): any numbers, such as ``cpu_percent`` or ``memory_bytes``. Other
                numbers become gauges of `/metrics` as ``segedge_NAME``.
            source: The source's sink; None for numbers of the whole process.
        """
        values = plain(stats)
        if source is None:
            self._hub.published = values
        else:
            source._channel.published = values

    def close(self) -> None:
        """Send the viewers away and end all threads. More than once does nothing."""
        self._hub.notify_closing()
        self._server.should_exit = True
        self._thread.join()
        for channel in self._hub.channels:
            channel.close()

    def _serve(self) -> None:
        """The server's thread."""
        try:
            asyncio.run(self._serve_and_tick())
        finally:
            self._socket.close()

    async def _serve_and_tick(self) -> None:
        ticking = asyncio.ensure_future(self._hub.run())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking


def _check_token(token: str | None) -> None:
    from urllib.parse import quote

    if token is not None and (not token or quote(token, safe="") != token):
        raise UsageError(
            "the token must be letters, digits and - . _ ~ only",
            facts={"found": "an empty one" if not token else f"{len(token)} characters"},
            fix="leave it away: a random one is made",
        )
