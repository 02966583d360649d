"""Who may read the live page: the guard in front of every answer. In: a request. Out: it goes on, or is refused.

A browser that shows other people's pages asks this server too, if they tell it to. So a request must name this server
as its host (against DNS rebinding), only read, and carry what only this user's terminal has said: a token in the
address once, a cookie from then on. Knows nothing about studies.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADDRESS = "127.0.0.1"
"""The only address that is ever listened on."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""On every answer, refusals too; an answer may bring a policy of its own."""


class Pass:
    """The secrets of one server, made when it starts and kept nowhere: a token for addresses, another for the cookie.

    ``once`` makes a token that opens the page a single time: what a browser is started with, other users can see.
    """

    def __init__(self, port: int):
        self.port = port
        self.token, self._cookie = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._once: set[str] = set()

    @property
    def url(self) -> str:
        return self._url(self.token)

    def once(self) -> str:
        """An address that works one time."""
        token = secrets.token_urlsafe(32)
        self._once.add(token)
        return self._url(token)

    def _url(self, token: str) -> str:
        return f"http://{ADDRESS}:{self.port}/?token={token}"

    def is_host(self, named: list[str]) -> bool:
        """Whether a request's Host headers are this server's name, once."""
        ports = ("", f":{self.port}") if self.port == 80 else (f":{self.port}",)
        return len(named) == 1 and named[0].lower() in {f"{name}{p}" for name in (ADDRESS, "localhost") for p in ports}

    def takes(self, token: str) -> bool:
        if _is_same(token, self.token):
            return True
        found = next((known for known in self._once if _is_same(token, known)), None)
        self._once.discard(found or "")
        return found is not None

    def knows(self, request: Request) -> bool:
        return _is_same(request.cookies.get(self.cookie_name, ""), self._cookie)

    @property
    def cookie_name(self) -> str:
        # Cookies go to every port of a host: two servers must not take each other's.
        return f"rankscope-{self.port}"

    @property
    def cookie(self) -> str:
        # Lax, not Strict: after a click in a terminal that is a web page, the way on from the token's address counts as
        # begun by that page. What other pages fetch or embed still comes without it.
        return f"{self.cookie_name}={self._cookie}; Path=/; HttpOnly; SameSite=Lax"


class Guard:
    """ASGI middleware: lets through who has the pass."""

    def __init__(self, app: ASGIApp, access: Pass):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there are no websockets, and nothing to set up
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer that isn't the page; None for who may go on."""
        if not self.access.is_host(Headers(scope=scope).getlist("host")):
            return _no("This server answers to its own name only.", 400)
        if scope["method"] not in ("GET", "HEAD"):
            return _no("This server is read-only.", 405, {"Allow": "GET, HEAD"})
        request = Request(scope)
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == "token"]
        if given:
            if not self.access.takes(given[0]):
                return _no("This token is not (or no longer) the server's. The address it printed when it started is.")
            rest = urlencode([pair for pair in asked if pair[0] != "token"])
            # One slash: two in front would name another host.
            clean = "/" + quote(scope["path"].lstrip("/")) + (f"?{rest}" if rest else "")
            return RedirectResponse(clean, 303, {"Set-Cookie": self.access.cookie})
        if not self.access.knows(request):
            return _no("Open the address that rankscope view printed: its token is the key.")
        return None


def _no(text: str, status: int = 403, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(text + "\n", status, headers)


def _is_same(given: Any, known: str) -> bool:
    """Compared in constant time; bytes, since text that isn't ASCII can't be."""
    return secrets.compare_digest(str(given).encode("utf-8", "replace"), known.encode())
