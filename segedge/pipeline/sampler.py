"""Sampler: calls something once a second while a run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Ticker(Protocol):
    """The second hand; tests have one of their own."""

    def wait(self) -> bool:
        """Wait for the next tick; False when the run is over."""

    def stop(self) -> None:
        """End the waiting, now and for good."""


class SecondTicker:
    """Ticks by the real clock."""

    def __init__(self, seconds: float = 1.0) -> None:
        """Tick every so many seconds."""
        self._seconds = seconds
        self._stopped = threading.Event()

    def wait(self) -> bool:
        """Wait for the next tick; False when the run is over."""
        return not self._stopped.wait(self._seconds)

    def stop(self) -> None:
        """End the waiting."""
        self._stopped.set()


class Sampler:
    """A thread that does one thing at every tick."""

    def __init__(
        self,
        step: Callable[[], None],
        ticker: Ticker,
        on_error: Callable[[BaseException], None],
    ) -> None:
        """Nothing starts yet; after an error of ``step`` nothing is done any more."""
        self._step, self._ticker, self._on_error = step, ticker, on_error
        self._thread = threading.Thread(target=self._run, name="segedge-sampler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._ticker.stop()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._ticker.wait():
                self._step()
        except BaseException as error:
            self._on_error(error)
