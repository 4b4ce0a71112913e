"""Hub: who watches what, and who gets what next. Lives in the server's event loop.

A viewer says which sources it shows and acknowledges every frame that it has drawn. At most
`_WINDOW` frames of a source are on their way to it, so a slow viewer, or a slow network, gets fewer
frames and always a new one, and one that never reads gets two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from segedge.live.channel import Channel
from segedge.live.stats import page_stats

_WINDOW = 2
"""Frames of a source on their way to a viewer: one is drawn while the next one travels."""


class Viewer:
    """One open page. All of it runs in the event loop."""

    def __init__(self, hub: Hub, socket: Any) -> None:
        """For an accepted WebSocket of Starlette."""
        self._hub = hub
        self._socket = socket
        self._changed = asyncio.Event()
        self._texts: dict[str, str] = {}
        self._credit: dict[int, int] = {}
        """Number of each source that is shown, to the frames that may be sent."""
        self._sent: dict[int, int] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Until the page goes away or the hub closes."""
        self.tasks = [asyncio.ensure_future(self._send()), asyncio.ensure_future(self._receive())]
        try:
            await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            if self._hub.is_closing:
                with suppress(Exception):  # it may be gone already
                    await self._socket.close(code=1001, reason="the run has ended")

    def watches(self, number: int) -> bool:
        """Whether it shows a source."""
        return number in self._credit

    def waits_for(self, channel: Channel) -> bool:
        """Whether it is ready for a frame that is not encoded yet."""
        number = channel.number
        has_all = self._sent.get(number, 0) >= channel.message_number
        return has_all and self._credit.get(number, 0) > 0

    def post(self, kind: str, text: str) -> None:
        """A text to be sent; a newer one of the same kind replaces it."""
        self._texts[kind] = text
        self._changed.set()

    def wake(self) -> None:
        """Look for new frames."""
        self._changed.set()

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            texts, self._texts = self._texts, {}
            for text in texts.values():
                await self._socket.send_text(text)
            for channel in self._hub.channels:
                number = channel.number
                # In this order: the encoder may put a newer one there meanwhile.
                message_number, message = channel.message_number, channel.message
                if message is None or self._credit.get(number, 0) < 1:
                    continue
                if message_number > self._sent.get(number, 0):
                    self._sent[number] = message_number
                    self._credit[number] -= 1
                    self._hub.count_wants()
                    await self._socket.send_bytes(message)

    async def _receive(self) -> None:
        async for text in self._socket.iter_text():
            try:
                self._obey(json.loads(text))
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                await self._socket.close(code=1003, reason="not a message of the live view")
                return

    def _obey(self, message: dict[str, Any]) -> None:
        """``{"watch": [numbers]}`` or ``{"ack": number}``."""
        if not message.keys() & {"watch", "ack"}:
            raise ValueError
        if "watch" in message:
            known = {channel.number: channel for channel in self._hub.channels}
            shown = {int(number) for number in message["watch"]} & set(known)
            for number in shown - set(self._credit):
                # The message of a time when nobody looked is old; a newer frame is at hand.
                stale = known[number].message_number if known[number].has_newer else 0
                self._sent[number] = stale
            self._credit = {number: self._credit.get(number, _WINDOW) for number in shown}
        if "ack" in message and self.watches(int(message["ack"])):
            number = int(message["ack"])
            self._credit[number] = min(self._credit[number] + 1, _WINDOW)
        self._hub.count_wants()
        self._changed.set()


class Hub:
    """Sources and viewers. `notify_...` may be called by any thread, the rest by the loop's."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.channels: list[Channel] = []
        """Only ever added to."""
        self.viewers: set[Viewer] = set()
        self.published: dict[str, Any] = {}
        """Numbers of the whole process, see `LiveView.publish`."""
        self.is_closing = False
        """Whether the server ends by intention."""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Tick once a second, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for channel in self.channels:
                channel.meter.tick(channel.published.get("dropped"))
            self._post_all("stats", page_stats(self.channels, len(self.viewers), self.published))

    async def serve(self, socket: Any) -> None:
        """Serve one viewer, from its acceptance to its end."""
        viewer = Viewer(self, socket)
        self.viewers.add(viewer)
        viewer.post("sources", json.dumps(self._sources()))
        try:
            await viewer.serve()
        finally:
            self.viewers.discard(viewer)
            self.count_wants()

    def count_wants(self) -> None:
        """Tell every channel whether somebody watches it and waits for a frame."""
        for channel in self.channels:
            channel.want(
                watched=any(viewer.watches(channel.number) for viewer in self.viewers),
                waited_for=any(viewer.waits_for(channel) for viewer in self.viewers),
            )

    def notify_message(self) -> None:
        """A channel has a new message."""
        self._call(self._wake_all)

    def notify_sources(self) -> None:
        """There is a new source, or one has changed."""
        self._call(lambda: self._post_all("sources", self._sources()))

    def notify_closing(self) -> None:
        """Send all viewers away."""
        self._call(self._cancel_all)

    def _wake_all(self) -> None:
        for viewer in self.viewers:
            viewer.wake()
        self.count_wants()

    def _cancel_all(self) -> None:
        self.is_closing = True
        for viewer in self.viewers:
            for task in viewer.tasks:
                task.cancel()

    def _call(self, step: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(step)

    def _post_all(self, kind: str, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        for viewer in self.viewers:
            viewer.post(kind, text)

    def _sources(self) -> dict[str, Any]:
        """What the page must know before the first frame."""
        sources = [
            {
                "name": channel.name,
                "state": channel.state,
                "model": channel.model,
                "backend": channel.backend,
                "classes": channel.classes,
                "palette": channel.palette_rgb,
                "history": channel.meter.history(),
            }
            for channel in self.channels
        ]
        return {"kind": "sources", "title": self.title, "sources": sources}
