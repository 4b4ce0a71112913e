"""Where the live view listens: what ``--live [HOST:PORT]`` means, and the socket of it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

from segedge.errors import SinkError, UsageError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8090


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str = DEFAULT_HOST
    """A name or an IP address, without brackets."""
    port: int = DEFAULT_PORT
    """0 is any free one."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port {self.port} is not within 0..65535")

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_any(self) -> bool:
        """Whether it stands for every address of this machine."""
        return self.host in ("0.0.0.0", "::")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str | None) -> Address:
    """The address that ``--live [HOST:PORT]`` names.

    Args:
        text: ``HOST:PORT``, ``HOST``, ``PORT``, ``:PORT`` (every address of this machine),
            ``[IPV6]:PORT``; empty or None is 127.0.0.1:8090.

    Raises:
        UsageError: It is none of these.
    """
    text = (text or "").strip()
    if not text:
        return Address()
    if "/" in text or any(character.isspace() for character in text):
        raise _not_an_address(text)
    if text.isdecimal():
        return Address(port=_port(text, text))
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _not_an_address(text)
        return Address(host, _port(rest[1:], text) if rest else DEFAULT_PORT)
    if text.count(":") > 1:
        return Address(text)  # a bare IPv6 address
    host, colon, port = text.partition(":")
    return Address(host or "0.0.0.0", _port(port, text) if colon else DEFAULT_PORT)


def _port(digits: str, text: str) -> int:
    if not digits.isdecimal():
        raise _not_an_address(text)
    return Address(port=int(digits)).port


def _not_an_address(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is no address",
        facts={"expected": "HOST:PORT, HOST or PORT"},
        fix=f"--live {DEFAULT_HOST}:{DEFAULT_PORT}",
    )


def listen(address: Address) -> socket.socket:
    """A listening socket; SinkError where the port is taken or the host is not this machine."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(address, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from error
    return listener


def _cannot_listen(address: Address, error: OSError) -> SinkError:
    reasons = {
        errno.EADDRINUSE: (
            "another program listens there",
            f"--live {Address(address.host, min(address.port + 1, 65535))}, or end that program",
        ),
        errno.EACCES: ("ports below 1024 need root", f"--live {Address(address.host)}"),
        errno.EADDRNOTAVAIL: (
            "no network interface of this machine has that address",
            "--live 0.0.0.0:PORT listens on all of them",
        ),
    }
    reason, fix = reasons.get(
        error.errno or 0, (error.strerror or str(error), f"--live {DEFAULT_HOST}:{DEFAULT_PORT}")
    )
    return SinkError(f"the live view cannot listen on {address}", facts={"found": reason}, fix=fix)
