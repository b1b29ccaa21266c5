"""Requests that share a session's connections: what they send, and that a connection serves one at a time."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.comfyui.small_requests import SmallRequests
from tests.support.fake_engine import FakeEngine, reply

TIMEOUT = aiohttp.ClientTimeout(total=20)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)  # by itself it takes none from an IP address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield session


def requests_of(session: aiohttp.ClientSession, engine: FakeEngine) -> SmallRequests:
    return SmallRequests(session, engine.url, headers={"X-Own": "yes"}, timeout=TIMEOUT, ssl=True)


async def test_the_request_is_the_one_that_the_session_would_send(session: aiohttp.ClientSession) -> None:
    async with FakeEngine(prefix="/behind/proxy") as engine:
        small = requests_of(session, engine)
        await small.ask("POST", "/free?a=%C3%BC+b", body=b'{"x": 1}')
        url, headers = f"{engine.url}/free?a=%C3%BC+b", {"X-Own": "yes", "Content-Type": "application/json"}
        async with session.post(url, data=b'{"x": 1}', headers=headers):
            pass
        ours, theirs = engine.requests
    assert (ours.method, ours.path, ours.query, ours.body) == ("POST", "/free", {"a": "ü b"}, b'{"x": 1}')
    assert ours == theirs


async def test_requests_one_after_the_other_share_a_connection(
    session: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    peers: set[object] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response({"read": True})

    engine.answers["GET /queue"] = engine.answers["HEAD /queue"] = answer
    small = requests_of(session, engine)
    for method, read, body in (
        ("GET", (200,), b'{"read": true}'),
        ("HEAD", (), b""),
        ("GET", (200,), b'{"read": true}'),
    ):
        got = await small.ask(method, "/queue", read=read, limit=100)
        assert (got.status, got.body, got.content_type) == (200, body, "application/json")
        assert got.content_length == 14
    async with session.get(f"{engine.url}/queue") as response:
        assert response.status == 200
    assert len(peers) == 1


async def test_a_body_that_nobody_wants_ends_its_connection_and_no_other_answer_is_mistaken_for_it(
    session: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    async def long(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 2**20)

    engine.answers["GET /queue"] = long
    engine.answers["GET /prompt"] = reply({"n": 1})
    small = requests_of(session, engine)
    assert (await small.ask("GET", "/queue")).body == b""
    with pytest.raises(WireFault, match="larger than 1000 bytes"):
        await small.ask("GET", "/queue", read=(200,), limit=1000)
    assert (await small.ask("GET", "/prompt", read=(200,), limit=1000)).body == b'{"n": 1}'


async def test_a_body_in_chunks_is_bounded_too(session: aiohttp.ClientSession, engine: FakeEngine) -> None:
    async def chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(10):
            await response.write(b"x" * 100)
        return response

    engine.answers["GET /queue"] = chunks
    small = requests_of(session, engine)
    assert len((await small.ask("GET", "/queue", read=(200,), limit=1000)).body) == 1000
    with pytest.raises(WireFault, match="larger than 999 bytes"):
        await small.ask("GET", "/queue", read=(200,), limit=999)


async def test_a_body_that_does_not_end_is_no_answer(
    session: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    async def begun(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        return await engine.hang(request)

    engine.answers["GET /queue"] = begun
    limits = aiohttp.ClientTimeout(total=2.0)
    small = SmallRequests(session, engine.url, headers={}, timeout=limits, ssl=True)
    with pytest.raises(WireFault, match="does not end"):
        await small.ask("GET", "/queue", read=(200,), limit=1000)
    engine.answers["GET /queue"] = engine.hang
    with pytest.raises(TimeoutError):
        await small.ask("GET", "/queue", read=(200,), limit=1000)


async def test_a_file_that_is_too_long_is_left_where_it_is(
    session: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    engine.answers["GET /view"] = reply(b"x" * 2**20)
    engine.answers["GET /prompt"] = reply({"n": 1})
    small = requests_of(session, engine)
    long = await small.ask("GET", "/view", read=(200,), limit=2**20 - 1, is_file=True)
    assert (long.body, long.content_length) == (b"", 2**20)
    assert (await small.ask("GET", "/prompt", read=(200,), limit=1000)).body == b'{"n": 1}'
    whole = await small.ask("GET", "/view", read=(200,), limit=2**20, is_file=True)
    assert len(whole.body) == 2**20


class Slow:
    """Sends a file of `length` bytes one by one, each when the reader has been given more time."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._more = asyncio.Event()
        self._more.set()

    def have_time(self) -> None:
        self._more.set()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(self._length)})
        await response.prepare(request)
        for _ in range(self._length):
            await self._more.wait()
            self._more.clear()
            await response.write(b"x")
        return response


async def test_each_piece_of_a_file_has_the_time_for_itself_and_silence_ends_it(
    session: aiohttp.ClientSession, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(20)
    reschedule = asyncio.Timeout.reschedule

    def give_time(timeout: asyncio.Timeout, when: float | None) -> None:
        reschedule(timeout, when)
        slow.have_time()

    monkeypatch.setattr(asyncio.Timeout, "reschedule", give_time)
    engine.answers["GET /view"] = slow
    small = requests_of(session, engine)
    assert (await small.ask("GET", "/view", read=(200,), limit=20, is_file=True)).body == b"x" * 20
    monkeypatch.undo()
    limits = aiohttp.ClientTimeout(total=0.5)
    small = SmallRequests(session, engine.url, headers={}, timeout=limits, ssl=True)
    engine.answers["GET /view"] = Slow(5)  # one byte, and then silence
    with pytest.raises(TimeoutError):
        await small.ask("GET", "/view", read=(200,), limit=5, is_file=True)


async def test_a_cookie_goes_back_with_the_next_request(
    session: aiohttp.ClientSession, engine: FakeEngine
) -> None:
    async def sticky(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, headers={"Set-Cookie": "backend=b2; Path=/"})

    engine.answers["GET /queue"] = sticky
    small = requests_of(session, engine)
    await small.ask("GET", "/queue")
    await small.ask("GET", "/prompt")
    assert [request.headers.get("cookie") for request in engine.requests] == [None, "backend=b2"]
