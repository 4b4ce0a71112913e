"""Who may look: a token, a cookie that remembers it, and no pages of other sites."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal
from urllib.parse import urlsplit

from segedge.live.address import Address

Verdict = Literal["granted", "missing", "wrong", "foreign"]


@dataclass(frozen=True)
class Access:
    """The rule of one server."""

    address: Address
    """Where it listens."""
    token: str | None
    """What a viewer must know; None only where nobody else can reach the server."""

    @property
    def cookie_name(self) -> str:
        """Cookies are shared by all ports of a host, so each port has its own."""
        return f"segedge_token_{self.address.port}"

    def verdict(self, headers: Mapping[str, str], query_token: str | None) -> Verdict:
        """Judge a request by its headers (lower-case names) and its ``?token=``."""
        if not self._is_own_page(headers):
            return "foreign"
        if self.token is None:
            return "granted"
        given = query_token or _bearer(headers) or self._cookie(headers)
        if not given:
            return "missing"
        is_right = hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
        return "granted" if is_right else "wrong"

    def cookie(self) -> str:
        """The header's value that makes a browser remember the token until it is closed."""
        return f"{self.cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    def _is_own_page(self, headers: Mapping[str, str]) -> bool:
        """Whether no other site's page is behind the request.

        Without a token the host must be a loopback name too: another site's name may be made to
        point here (DNS rebinding).
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return False
        if self.token is not None:
            return True
        name = _hostname(host)
        return name == self.address.host.lower() or Address(name).is_loopback

    def _cookie(self, headers: Mapping[str, str]) -> str | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie_name)
        except CookieError:
            return None
        return morsel.value if morsel else None


def _bearer(headers: Mapping[str, str]) -> str | None:
    """What Prometheus sends: ``Authorization: Bearer TOKEN``."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
