"""What the server accepts and lets a browser do: requests of this machine, bounded bodies, no foreign address."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOCAL = frozenset({"127.0.0.1", "localhost"})

HEADERS = {
    # Gradio's page has inline scripts and compiles templates; every address but this server's is refused.
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    b"font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    b"base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}


class Guard:
    """ASGI middleware: refuses other hosts (DNS rebinding), other origins, and bodies beyond a limit.

    Args:
        app: The application.
        most: Bytes of a request's body.
    """

    def __init__(self, app: App, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}
        if scope["type"] != "http" or _host(f"//{headers.get(b'host', '')}") not in LOCAL:
            return await _refuse(send, 403, "only requests to 127.0.0.1 are answered")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
            return await _refuse(send, 403, "requests of other pages are refused")
        length = headers.get(b"content-length", "0")
        too_large = not length.isdecimal() or len(length) > 15 or int(length) > self.most
        if too_large:
            return await _refuse(send, 413, f"expected at most {self.most} bytes")
        return await self.app(scope, self._bounded(receive), _with_headers(send))

    def _bounded(self, receive: Receive) -> Receive:
        """Messages of a body without a stated length; beyond the limit the client counts as gone."""
        count = 0

        async def bounded() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            return message if count <= self.most else {"type": "http.disconnect"}

        return bounded


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS.items()]
        await send(message)

    return with_headers


async def _refuse(send: Send, status: int, text: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})
