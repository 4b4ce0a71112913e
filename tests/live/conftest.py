"""Fixtures of the live view's tests: a view on a free port, the system's Chromium."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_parts import Watcher, chromium


@pytest.fixture
def make_view() -> Iterator[Callable[..., Any]]:
    """Views that are closed at the end, and leave no thread behind."""
    for library in ("starlette", "uvicorn", "websockets"):
        pytest.importorskip(library)
    from segedge.live.view import LiveView

    views: list[Any] = []

    def make(host: str = "127.0.0.1", port: int = 0, **options: Any) -> Any:
        views.append(LiveView(host, port, **options))
        return views[-1]

    yield make
    for view in views:
        view.close()
    left = [thread.name for thread in threading.enumerate() if "segedge-live" in thread.name]
    assert not left, f"threads left: {left}"


@pytest.fixture
def view(make_view: Callable[..., Any]) -> Any:
    return make_view(title="cameras")


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    """Viewers without a browser."""
    watchers: list[Watcher] = []

    def start(view: Any, **options: Any) -> Watcher:
        watchers.append(Watcher(view, **options))
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        yield from chromium(play)
