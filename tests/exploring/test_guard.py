"""The guard of the server: other hosts, other origins, bodies beyond the limit, and headers."""

import asyncio
from typing import Any

import pytest

from mmalign.exploring.guard import Guard

HOST = (b"host", b"127.0.0.1:7860")


def ask(headers: list[tuple[bytes, bytes]], body: tuple[bytes, ...] = (b"",)) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []
    parts = iter(body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        read = b""
        for _ in body:
            message = await receive()
            read += message.get("body", message["type"].encode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": read})

    async def receive() -> Any:
        return {"type": "http.request", "body": next(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app, most=10)({"type": "http", "headers": headers}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_an_own_request_passes_with_a_policy() -> None:
    status, headers, body = ask([HOST, (b"origin", b"http://127.0.0.1:7860")], (b"abc",))
    assert (status, body) == (200, b"abc")
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"http" not in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"evil.example")], 403),
        ([(b"host", b"127.0.0.1.evil.example:7860")], 403),
        ([], 403),
        ([HOST, (b"origin", b"http://evil.example")], 403),
        ([HOST, (b"origin", b"null")], 403),
        ([HOST, (b"content-length", b"11")], 413),
        ([HOST, (b"content-length", b"many")], 413),
    ],
)
def test_foreign_and_large_requests_are_refused(headers: list[tuple[bytes, bytes]], status: int) -> None:
    assert ask(headers)[0] == status


def test_a_body_without_a_length_ends_at_the_limit() -> None:
    assert ask([HOST], (b"12345678", b"12345678"))[2] == b"12345678http.disconnect"
