"""Where the live view listens, and whom it lets in."""

from __future__ import annotations

import pytest
from live_parts import get

from segedge.errors import UsageError
from segedge.live.access import Access
from segedge.live.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (None, "127.0.0.1", 8090),
        ("", "127.0.0.1", 8090),
        ("9000", "127.0.0.1", 9000),
        (":9000", "0.0.0.0", 9000),
        ("0.0.0.0", "0.0.0.0", 8090),
        ("cam.local:80", "cam.local", 80),
        ("[::1]:9000", "::1", 9000),
        ("[::1]", "::1", 8090),
        ("::1", "::1", 8090),
    ],
)
def test_addresses(text: str | None, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize("text", ["a:b", "host:99999", "http://host:80/", "[::1", "a b:1", "99999"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("cam", False)],
)
def test_loopback(host: str, is_loopback: bool) -> None:
    assert Address(host).is_loopback is is_loopback


def test_health_needs_no_token(make_view) -> None:
    view = make_view(token="secret")
    assert get(f"http://{view.address}/healthz")[:2] == (200, "ok\n")


def test_the_token_is_asked_for_accepted_and_remembered(make_view) -> None:
    view = make_view(token="secret")
    base = f"http://{view.address}/"
    status, page, headers = get(base)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "needs its token" in page
    assert get(base + "?token=guess")[0] == 403
    status, page, headers = get(view.url)
    assert status == 200
    assert "secret" not in page
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert get(base, Cookie=cookie.partition(";")[0])[0] == 200
    assert get(base + "metrics")[0] == 401
    assert get(base + "metrics", Authorization="Bearer secret")[0] == 200


def test_a_websocket_needs_the_token_too(make_view, watch) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    view = make_view(token="secret")
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{view.address}/ws?token=guess")
    assert caught.value.response.status_code == 403
    assert watch(view).next("sources")


def test_pages_of_other_sites_are_refused(view, watch) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus):
        watch(view, origin="http://evil.example")
    assert watch(view, origin=f"http://{view.address}").next("sources")
    assert get(view.url, Host="evil.example")[0] == 403, "DNS rebinding"
    assert get(view.url, Host=f"localhost:{view.address.port}")[0] == 200


def test_beyond_loopback_a_token_is_made() -> None:
    """Judged without listening on a network."""
    access = Access(Address("0.0.0.0", 80), "t0ken")
    assert access.verdict({"host": "cam.local"}, None) == "missing"
    assert access.verdict({"host": "cam.local"}, "t0ken") == "granted"
    assert access.verdict({"host": "cam.local"}, "tökén") == "wrong"
    assert (
        access.verdict({"host": "cam.local", "cookie": "segedge_token_80=t0ken"}, None) == "granted"
    )
    assert access.verdict({"host": "cam.local", "cookie": "=;;;="}, None) == "missing"


def test_a_view_beyond_loopback_makes_a_token(make_view, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Address, "is_loopback", property(lambda self: False))
    first, second = make_view(), make_view()
    assert len(first.token) >= 20
    assert first.token != second.token
    assert first.url.endswith(f"/?token={first.token}")


@pytest.mark.parametrize("token", ["", "a b", "a;b", "ü"])
def test_tokens_that_no_address_can_hold(make_view, token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        make_view(token=token)
