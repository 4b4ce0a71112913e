"""The web application: the page, its files, the frames, the metrics. The door to Starlette."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from segedge.live.access import Access, Verdict
from segedge.live.hub import Hub
from segedge.live.stats import prometheus
from segedge.machine.optional import require

_KINDS = {
    "live.css": "text/css",
    "live.js": "text/javascript",
    "connection.js": "text/javascript",
    "picture.js": "text/javascript",
    "charts.js": "text/javascript",
    "controls.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""What `/static/` serves, and nothing else. These files are the same everywhere, no secrets."""

_SAFETY = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_REFUSALS: dict[Verdict, tuple[int, str, str]] = {
    "missing": (
        401,
        "This view needs its token",
        "Open the address that segedge printed when it started: it ends in ?token=... "
        "Or type the token here.",
    ),
    "wrong": (
        403,
        "That token does not fit",
        "segedge makes a new token at every start, unless it is told one. Open the address that "
        "it printed last, or type the token here.",
    ),
    "foreign": (
        403,
        "Not from here",
        "The request comes from another site's page, or by a name that this server does not go "
        "by. Open the address that segedge printed.",
    ),
}


@cache
def page_file(name: str) -> bytes:
    """A file of the page."""
    return resources.files("segedge.live").joinpath("page").joinpath(name).read_bytes()


def make_app(hub: Hub, access: Access) -> Any:
    """The ASGI application."""
    purpose = "serve the live view"
    responses = require("starlette.responses", purpose=purpose)
    routing = require("starlette.routing", purpose=purpose)
    applications = require("starlette.applications", purpose=purpose)

    async def page(request: Any) -> Any:
        body = page_file("index.html").replace(b"{title}", escape(hub.title).encode())
        headers = _SAFETY | ({"Set-Cookie": access.cookie()} if access.token else {})
        return responses.Response(body, media_type="text/html", headers=headers)

    async def static(request: Any) -> Any:
        name = request.path_params["name"]
        if name not in _KINDS:
            return responses.PlainTextResponse("no such file\n", 404, headers=_SAFETY)
        return responses.Response(page_file(name), media_type=_KINDS[name], headers=_SAFETY)

    async def metrics(request: Any) -> Any:
        text = prometheus(hub.channels, len(hub.viewers), hub.published)
        kind = "text/plain; version=0.0.4"
        return responses.Response(text, media_type=kind, headers=_SAFETY)

    async def healthz(request: Any) -> Any:
        return responses.PlainTextResponse("ok\n", headers=_SAFETY)

    async def watch(socket: Any) -> None:
        await socket.accept()
        await hub.serve(socket)

    routes = [
        routing.Route("/", page),
        routing.Route("/static/{name}", static),
        routing.Route("/metrics", metrics),
        routing.Route("/healthz", healthz),
        routing.WebSocketRoute("/ws", watch),
    ]
    return _Guard(applications.Starlette(routes=routes), access, responses)


class _Guard:
    """ASGI middleware that lets nothing but health checks and static files pass unjudged."""

    def __init__(self, app: Any, access: Access, responses: Any) -> None:
        self._app, self._access, self._responses = app, access, responses

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]
    ) -> None:
        if scope["type"] == "lifespan" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        verdict = self._access.verdict(_headers(scope), _query_token(scope))
        if verdict == "granted":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # becomes HTTP 403
        else:
            await self._refusal(scope, verdict)(scope, receive, send)

    def _refusal(self, scope: Any, verdict: Verdict) -> Any:
        status, headline, words = _REFUSALS[verdict]
        headers = _SAFETY | ({"WWW-Authenticate": "Bearer"} if status == 401 else {})
        if scope["path"] != "/":
            text = f"{headline}. {words}\n"
            return self._responses.PlainTextResponse(text, status, headers=headers)
        body = page_file("refused.html").decode()
        body = body.replace("{headline}", headline).replace("{words}", words)
        body = body.replace("{form}", "hidden" if verdict == "foreign" else "")
        return self._responses.HTMLResponse(body, status, headers=headers)


def _is_open(scope: Any) -> bool:
    path: str = scope["path"]
    return scope["type"] == "http" and (path == "/healthz" or path.startswith("/static/"))


def _headers(scope: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _query_token(scope: Any) -> str | None:
    from urllib.parse import parse_qs

    values = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    return values[0] if values else None
