"""When the kernel may move the rest of an answer, and when it is read as any other."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.places.comfyui import splice
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.transport import Answer
from comfy_mcp.settings import Settings
from tests.support.certificates import loopback_certificate

BODY = bytes(range(256)) * 2_000
FILE = OutputFile(kind=OutputKind.IMAGE, filename="x.bin")


@asynccontextmanager
async def viewing(how: str = "plain", *, certificate: Path | None = None) -> AsyncIterator[Answer]:
    """The open answer of an engine."""

    async def view(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if how == "chunked":
            response.enable_chunked_encoding()
        elif how == "compressed":
            response.enable_compression(web.ContentCoding.gzip)
        else:
            response.content_length = len(BODY)
        await response.prepare(request)
        await response.write(BODY)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/view", view)
    more: dict[str, Any] = {}
    tls = None
    if certificate is not None:
        more = {"engine_ca_file": certificate}
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    server = TestServer(app, scheme="https" if tls else "http")
    await server.start_server(None, **({"ssl": tls} if tls else {}))
    async with server:
        settings = Settings(engine_urls=(str(server.make_url("")).rstrip("/"),), **more)
        async with ComfyUIClient(settings.engines[0], settings) as client, client.view(FILE) as answer:
            yield answer


async def read(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks()])


class Window:
    """A target whose other end is read whenever it takes no more."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self.received = b""
        self.waits = 0

    @property
    def descriptor(self) -> int:
        return self._near.fileno()

    async def writable(self) -> None:
        self.waits += 1
        self.read()

    def read(self) -> None:
        try:
            while True:
                self.received += self._far.recv(2**16)
        except BlockingIOError:
            return

    def close(self) -> None:
        self._near.close()
        self._far.close()


async def test_what_has_come_and_what_the_kernel_moves_are_the_body() -> None:
    window = Window()
    async with viewing() as answer:
        begun = await anext(answer.chunks())
        rest = answer.take_over()
        assert rest is not None
        await rest.send(window, len(BODY) - len(begun) - len(rest.early))
        window.read()
        assert begun + rest.early + window.received == BODY
        rest.close()
    window.close()


@pytest.mark.parametrize("how", ["chunked", "compressed"])
async def test_a_body_that_is_not_as_long_as_it_says_is_read(how: str) -> None:
    async with viewing(how) as answer:
        assert answer.take_over() is None
        assert await read(answer) == BODY


async def test_an_encrypted_body_is_read(tmp_path: Path) -> None:
    async with viewing(certificate=loopback_certificate(tmp_path)) as answer:
        assert answer.take_over() is None
        assert await read(answer) == BODY


async def test_where_the_system_moves_nothing_the_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert splice.can_splice() is True
    monkeypatch.setattr(splice, "can_splice", lambda: False)
    async with viewing() as answer:
        assert answer.take_over() is None
        assert await read(answer) == BODY


async def test_without_descriptors_the_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(24, "too many open files")

    splice.can_splice()
    monkeypatch.setattr(splice, "_pipe", none_left)
    async with viewing() as answer:
        assert answer.take_over() is None
        assert await read(answer) == BODY
    splice.can_splice.cache_clear()
    assert splice.can_splice() is False
    monkeypatch.undo()
    splice.can_splice.cache_clear()
