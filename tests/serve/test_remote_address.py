"""Addresses of models on servers."""

from __future__ import annotations

from pathlib import Path

import pytest

import segedge
from segedge.errors import UsageError
from segedge.remote import parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc://box/street", "grpc://box:8001/street"),
        ("http:/box/street", "http://box:8000/street"),
        ("https://box/street/3", "https://box:443/street/3"),
        ("grpcs://[::1]:9/a%20b", "grpcs://[::1]:9/a b"),
        ("http://box/v2/models/street/versions/2", "http://box:8000/street/2"),
        ("http://box/team/v2/models/street", "http://box:8000/team/street"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert str(parse_address(text)[0]) == expected
    assert str(parse_address(Path(text))[0]) == expected


def test_options_of_addresses() -> None:
    _, options = parse_address("grpc://box/street?timeout=30&patience=0")
    assert (options.timeout_seconds, options.patience_seconds) == (30, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc://box", "names no model on a server"),
        ("grpc://box/a/b/c", "names no model on a server"),
        ("grpc:///street", "names no model on a server|no address"),
        ("grpc://box/street/new", "'new' is no version of a model"),
        ("grpc://box:abc/street", "has no port"),
        ("grpc://box/street?tmeout=3", "no option of an address 'tmeout'; did you mean 'timeout'"),
        ("grpc://box/street?timeout=soon", "timeout=soon is no number of seconds"),
        ("grpc://box/street?timeout=0", "timeout must be above 0 seconds"),
        ("grpc://box/street?patience=-1", "patience must be 0 seconds or more"),
        ("ftp://box/street", "is no address of a served model"),
    ],
)
def test_addresses_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_address(text)


def test_backends_and_addresses(small: Path) -> None:
    with pytest.raises(UsageError, match="backend openvino runs files here"):
        segedge.load("grpc://box/street", backend="openvino")
    with pytest.raises(UsageError, match="no backend 'remot'; did you mean 'remote'"):
        segedge.load("grpc://box/street", backend="remot")
    with pytest.raises(UsageError, match="no way to a server 'smh'; did you mean 'shm'"):
        segedge.load("grpc://box/street", backend="remote:smh")
    with pytest.raises(UsageError, match="needs a server's address"):
        segedge.load(small, backend="remote")
