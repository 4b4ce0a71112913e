"""Where a served model is: ``grpc://host:8001/street``, and how long to wait for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from segedge.errors import UsageError, unknown_name_error

Protocol = Literal["grpc", "http"]
MemoryUse = Literal["auto", "shm", "wire"]

_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}
_SCHEME = re.compile(r"^(grpcs?|https?):/+")
"""One slash is enough: a `Path` made of an address has lost the other."""
_LOCAL = ("localhost", "127.", "::1")
_EXAMPLE = "grpc://HOST:8001/MODEL or http://HOST:8000/MODEL"


@dataclass(frozen=True)
class RemoteOptions:
    """How a server is talked to."""

    connect_seconds: float = 3.0
    """Longest wait for its first answer."""
    timeout_seconds: float = 10.0
    """Longest wait for the answer to a frame."""
    patience_seconds: float = 10.0
    """How long a server that is lost in mid-run is looked for; 0: not at all."""
    memory: MemoryUse = "auto"
    """``shm``: tensors go through shared memory, ``wire``: with the request; ``auto``: through
    shared memory where the server is on this machine and sees it."""

    def __post_init__(self) -> None:
        for name in ("connect_seconds", "timeout_seconds"):
            if not 0.0 < getattr(self, name) < 1e6:
                raise UsageError(
                    f"{name.removesuffix('_seconds')} must be above 0 seconds",
                    facts={"found": f"{getattr(self, name):g}"},
                )
        if not 0.0 <= self.patience_seconds < 1e6:
            raise UsageError(
                "patience must be 0 seconds or more", facts={"found": f"{self.patience_seconds:g}"}
            )


@dataclass(frozen=True)
class RemoteAddress:
    """A model on a server."""

    scheme: str
    """``grpc``, ``grpcs``, ``http`` or ``https``."""
    host: str
    port: int
    model: str
    version: str = ""
    """Version number, or empty: the server's choice."""
    prefix: str = ""
    """Path before ``v2/``, of a server behind a gateway (HTTP)."""

    @property
    def protocol(self) -> Protocol:
        """Which of the two protocols."""
        return "grpc" if self.scheme.startswith("grpc") else "http"

    @property
    def is_encrypted(self) -> bool:
        """Whether it goes over TLS."""
        return self.scheme in ("grpcs", "https")

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine by its name."""
        return self.host.startswith(_LOCAL)

    @property
    def endpoint(self) -> str:
        """``host:port``, with the prefix, as tritonclient takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{'/' + self.prefix if self.prefix else ''}"

    @property
    def server(self) -> str:
        """The address without the model."""
        return f"{self.scheme}://{self.endpoint}"

    def __str__(self) -> str:
        version = f"/{self.version}" if self.version else ""
        return f"{self.server}/{self.model}{version}"


def is_address(model: str | Path) -> bool:
    """Whether this names a model on a server, not a file."""
    return _SCHEME.match(str(model)) is not None


def address_text(model: str | Path) -> str:
    """A file's path as it is; an address with both its slashes, which a `Path` takes from it."""
    return _SCHEME.sub(r"\1://", str(model))


def parse_address(
    text: str | Path, *, memory: MemoryUse = "auto"
) -> tuple[RemoteAddress, RemoteOptions]:
    """Read ``grpc://host:8001/model``, ``http://host:8000/model/2?timeout=30&patience=60``.

    KServe's own spelling ``http://host/v2/models/NAME/versions/2`` is understood, too.
    """
    text = address_text(text)
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise UsageError(f"{text} is no address of a served model", fix=_EXAMPLE)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise UsageError(
            f"{text} has no port", facts={"found": str(error)}, fix=_EXAMPLE
        ) from error
    prefix, names = _split_path(parts.path)
    if not parts.hostname or not 1 <= len(names) <= 2 or not all(names):
        raise UsageError(f"{text} names no model on a server", fix=_EXAMPLE)
    model, version = (*names, "")[:2]
    if version and not version.isdigit():
        raise UsageError(
            f"{version!r} is no version of a model", facts={"expected": "a number"}, fix=_EXAMPLE
        )
    address = RemoteAddress(parts.scheme, parts.hostname, port, model, version, prefix)
    return address, _options(parts.query, memory)


def memory_use(variant: str) -> MemoryUse:
    """The variant of ``--backend remote:VARIANT``."""
    if variant not in ("", "shm", "wire"):
        raise unknown_name_error("way to a server", variant, ["shm", "wire"])
    return cast("MemoryUse", variant or "auto")


def _split_path(path: str) -> tuple[str, list[str]]:
    """What is before ``v2/models/``, and model and version behind it."""
    before, found, behind = f"{path}/".partition("/v2/models/")
    words = [unquote(word) for word in (behind if found else path).split("/") if word]
    if found and len(words) == 3 and words[1] == "versions":
        del words[1]
    return (before.strip("/") if found else ""), words


def _options(query: str, memory: MemoryUse) -> RemoteOptions:
    fields = {"timeout": "timeout_seconds", "patience": "patience_seconds"}
    values: dict[str, float] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in fields:
            raise unknown_name_error("option of an address", name, list(fields))
        try:
            values[fields[name]] = float(text)
        except ValueError:
            raise UsageError(f"{name}={text} is no number of seconds", fix=f"?{name}=30") from None
    return RemoteOptions(memory=memory, **values)
