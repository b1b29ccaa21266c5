"""The ASGI bridge, with applications of a few lines behind it and real sockets before it."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from http_sidecar.door.errors import errors
from http_sidecar.mcp.asgi import AsgiApp, AsgiBridge, Message, Receive, Send

Scope = MutableMapping[str, Any]

LIMIT_S = 20.0
CHUNK = b"x" * 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    client: TestClient[web.Request, web.Application]
    bridge: AsgiBridge

    @asynccontextmanager
    async def connect(self, head: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection with `head` sent on it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.client.server.port)
        try:
            writer.write(head.replace("\n", "\r\n").encode())
            await writer.drain()
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def serve(app: AsgiApp, **options: float) -> AsyncIterator[Served]:
    bridge = AsgiBridge(app, **({"body_timeout_s": LIMIT_S, "send_timeout_s": LIMIT_S} | options))

    async def handle(request: web.Request) -> web.StreamResponse:
        return await bridge.handle(request, state={"who": "me"}, user="somebody", revoked=asyncio.Event())

    whole = web.Application(middlewares=[errors])
    whole.router.add_route("*", "/{path:.*}", handle)
    async with TestClient(TestServer(whole)) as client, asyncio.timeout(LIMIT_S):
        yield Served(client=client, bridge=bridge)


async def start(send: Send, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Send, content: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def test_the_scope_says_what_was_asked_and_by_whom() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await start(send, 201, ((b"x-one", b"1"), (b"x-one", b"2"), (b"connection", b"close")))
        await body(send, b"made")

    async with serve(app) as served:
        answer = await served.client.put("/a%20b/c?q=%C3%A9&q=2", headers=[("X-Two", "a"), ("X-Two", "b")])
        text = await answer.text()
        port = served.client.server.port

    scope = seen[0]
    assert (answer.status, text) == (201, "made")
    assert answer.headers.getall("x-one") == ["1", "2"]
    assert "connection" not in answer.headers
    assert (scope["type"], scope["method"], scope["scheme"]) == ("http", "PUT", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/a b/c",
        b"/a%20b/c",
        b"q=%C3%A9&q=2",
    )
    assert [value for name, value in scope["headers"] if name == b"x-two"] == [b"a", b"b"]
    assert (scope["state"], scope["user"]) == ({"who": "me"}, "somebody")
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"][1] == port


async def test_a_body_comes_in_pieces_and_an_absent_one_at_once() -> None:
    seen: list[list[Message]] = []
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield CHUNK
        await begun.wait()
        yield CHUNK * 7

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages = [await receive()]
        begun.set()
        while messages[-1]["more_body"]:
            messages.append(await receive())
        seen.append(messages)
        await start(send)
        await body(send, b"")

    async with serve(app) as served:
        await served.client.post("/", data=pieces())
        await served.client.get("/")

    assert b"".join(message["body"] for message in seen[0]) == CHUNK * 8
    assert len(seen[0]) > 1
    assert seen[1] == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_an_answer_reaches_the_client_while_it_is_being_made() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"first", more=True)
        await go_on.wait()
        await body(send, b"second")

    async with serve(app) as served:
        answer = await served.client.get("/")
        first = await answer.content.readany()
        go_on.set()
        rest = await answer.read()

    assert (first, rest) == (b"first", b"second")


async def test_a_client_that_goes_is_told_to_the_application_and_nothing_is_written_any_more() -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        await body(send, b"first", more=True)
        heard.put_nowait("started")
        heard.put_nowait((await receive())["type"])
        await body(send, b"to nobody", more=True)
        heard.put_nowait((await receive())["type"])

    async with serve(app) as served:
        answer = await served.client.get("/")
        assert await heard.get() == "started"
        answer.close()
        assert [await heard.get(), await heard.get()] == ["http.disconnect", "http.disconnect"]
        await served.bridge.wait_idle()
    assert not served.bridge._open


async def test_an_application_that_does_not_end_after_the_client_is_cancelled() -> None:
    events: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        events.put_nowait("started")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.put_nowait("cancelled")
            raise

    async with serve(app, grace_s=0.01) as served:
        async with served.connect("GET / HTTP/1.1\nHost: localhost\n\n"):
            assert await events.get() == "started"
        assert await events.get() == "cancelled"
        await served.bridge.wait_idle()


async def test_a_client_that_never_reads_is_cut_off_and_others_notice_nothing() -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    written = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal written
        await receive()
        await start(send)
        if scope["path"] == "/quick":
            await body(send, b"here")
            return
        # Far more than the kernel's buffers take.
        for _ in range(2_000):
            await body(send, CHUNK, more=True)
            written += len(CHUNK)
            if not heard.empty():
                break
        heard.put_nowait((await receive())["type"])

    head = "GET /slow HTTP/1.1\nHost: localhost\n\n"
    async with serve(app, send_timeout_s=0.3) as served, served.connect(head) as (reader, _writer):
        answer = await served.client.get("/quick")
        assert await answer.text() == "here"
        assert await heard.get() == "http.disconnect"
        await served.bridge.wait_idle()
        received = await _all_of(reader)
    assert received < 2_000 * len(CHUNK)


async def _all_of(reader: asyncio.StreamReader) -> int:
    """Bytes that had come before the connection broke."""
    received = 0
    try:
        while chunk := await reader.read(2**20):
            received += len(chunk)
    except ConnectionResetError:
        pass
    return received


async def test_a_body_that_does_not_come_is_a_408() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])

    async with serve(app, body_timeout_s=0.05) as served:
        head = "POST / HTTP/1.1\nHost: localhost\nContent-Length: 9\n\n"
        async with served.connect(head) as (reader, _writer):
            status = await reader.readline()
    assert status.startswith(b"HTTP/1.1 408 ")
    assert heard == ["http.disconnect"]


async def test_a_body_that_is_not_what_its_encoding_says_is_a_400() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not heard or heard[-1] == "http.request":
            heard.append((await receive())["type"])

    async with serve(app) as served:
        answer = await served.client.post(
            "/",
            data=b"no gzip at all",
            headers={"Content-Encoding": "gzip"},
            skip_auto_headers=["Accept-Encoding"],
        )
    assert answer.status == 400
    assert heard[-1] == "http.disconnect"


async def test_a_client_that_goes_within_its_body_is_told_to_the_application() -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        while message["type"] == "http.request":
            heard.put_nowait(message["body"].decode())
            message = await receive()
        heard.put_nowait(message["type"])

    async with serve(app) as served:
        head = "POST / HTTP/1.1\nHost: localhost\nContent-Length: 9\n\ngood"
        async with served.connect(head):
            assert await heard.get() == "good"
        assert await heard.get() == "http.disconnect"


async def test_what_fails_before_the_answer_is_an_error_without_its_text() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a secret")

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    for app in (failing, silent):
        async with serve(app) as served:
            answer = await served.client.get("/")
            text = await answer.text()
        assert answer.status == 500
        assert "secret" not in text


async def test_what_fails_within_the_answer_cuts_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"half of it", more=True)
        raise ValueError("broken")

    async with serve(app) as served:
        answer = await served.client.get("/")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_draining_ends_listeners_at_once_and_gives_the_others_time() -> None:
    ended: asyncio.Queue[str] = asyncio.Queue()
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        await body(send, b"open", more=True)
        if scope["method"] == "GET":
            ended.put_nowait((await receive())["type"])
        else:
            await go_on.wait()
            await body(send, b" and done")
            ended.put_nowait("done")

    async with serve(app) as served, asyncio.TaskGroup() as tasks:
        await served.client.get("/")
        answer = await served.client.post("/")
        draining = tasks.create_task(served.bridge.drain(LIMIT_S))
        assert await ended.get() == "http.disconnect"
        go_on.set()
        assert await answer.text() == "open and done"
        await draining
    assert not served.bridge._open


async def test_what_is_still_open_after_the_drain_is_told_that_its_client_has_gone() -> None:
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        await body(send, b"open", more=True)
        ended.put_nowait((await receive())["type"])

    async with serve(app) as served:
        await served.client.post("/")
        await served.bridge.drain(0.01)
        assert await ended.get() == "http.disconnect"


async def test_frames_that_are_written_past_the_application_come_as_events_between_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = scope["answer"]
        await start(send)
        await body(send, b"first\r\n\r\n", more=True)
        await answer.begun()
        answer.write(answer.frame(b'{"second":2}'))
        await body(send, b"third\r\n\r\n")
        answer.write(answer.frame(b"too late"))

    async with serve(app) as served, served.client.get("/") as answer:
        assert (
            await answer.read() == b'first\r\n\r\nevent: message\r\ndata: {"second":2}\r\n\r\nthird\r\n\r\n'
        )
        async with served.client.get("/") as again:
            assert again.status == 200, "the connection is as good as before"
            await again.read()


async def test_a_client_that_leaves_too_many_frames_unread_is_cut_off() -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = scope["answer"]
        await start(send)
        await body(send, b"first", more=True)
        written, gone = 0, asyncio.Event()

        async def watch() -> None:
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch())
            while not gone.is_set():
                answer.write(answer.frame(CHUNK))
                written += len(CHUNK)
                await asyncio.sleep(0)
            watching.cancel()
        assert written < 64 * 2**20
        ended.set()

    async with serve(app) as served:
        async with served.connect("GET / HTTP/1.1\nHost: x\n\n"):
            await ended.wait()
        await served.bridge.wait_idle()
