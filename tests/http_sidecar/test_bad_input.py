"""What no client should send: each is answered clearly, and the others notice nothing."""

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from http_sidecar.bounds import Bounds
from http_sidecar.door import bodies
from http_sidecar.door.bodies import MOST_CRUMBS
from http_sidecar.process import runner
from tests.support.graphs import picture
from tests.support.raw_http import Listening, RawAnswer, listening

WORKFLOW = b"/v1/comfyui/workflow"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def server(services: Services, settings: Settings) -> AsyncIterator[Listening]:
    settings = settings.model_copy(update={"max_graph_bytes": 64 * 1024})
    bounds = Bounds(body_bytes=64 * 1024, body_timeout_s=1, send_timeout_s=1)
    async with listening(services, settings, bounds) as server:
        yield server
        assert (await server.ask(HEALTH)).status == 200, "it serves on"


def post(body: bytes, *more: bytes, length: int | None = None, path: bytes = WORKFLOW) -> bytes:
    lines = [
        b"POST %b HTTP/1.1" % path,
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % (len(body) if length is None else length),
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def assert_problem(answer: RawAnswer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.data
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.body
    assert (body["statusCode"], body["status"]) == (status, status)
    assert body["message"]
    assert body["nextStep"]
    assert b"Traceback" not in answer.data
    return body


BROKEN_HTTP = [
    b"\r\n\r\n\r\nnonsense\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /health HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"POST /v1/comfyui/workflow HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/comfyui/workflow HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET http://[broken/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest.mark.parametrize("sent", BROKEN_HTTP)
async def test_broken_http_is_400_and_the_connection_ends(server: Listening, sent: bytes) -> None:
    async with server.connect() as client:
        await client.send(sent)
        assert_problem(await client.answer(), 400)
        assert await client.closed() == b""


async def test_a_broken_chunk_is_400(server: Listening) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % WORKFLOW
    assert_problem(await server.ask(head, b"zz\r\nnope\r\n"), 400)


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\nnope\r\n",
        b"0\r\n" + b"X: y\r\n" * 3_000,
        b"0\r\nno colon\r\n",
        b"0\r\n%b: y" % (b"X" * 20_000),
    ],
    ids=["size", "trailers", "trailer", "name"],
)
async def test_a_body_that_breaks_off_is_answered_at_once(
    services: Services, settings: Settings, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """And not when the time for a body is over."""
    begun = asyncio.Event()
    read = bodies._read

    async def reading(request: web.Request, most: int) -> bytes:
        begun.set()
        return await read(request, most)

    monkeypatch.setattr(bodies, "_read", reading)
    async with listening(services, settings) as server, server.connect() as client:
        await client.send(chunked(b"{", 1))
        await begun.wait()
        await client.send(rest)
        assert assert_problem(await client.answer(), 400)["code"] == "bad_http"
        assert await client.closed() == b""


@pytest.mark.parametrize(
    "bomb",
    [
        b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 100_000),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"x" * 100_000),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n%b: x\r\n\r\n" % (b"x" * 100_000),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    ],
    ids=["path", "value", "name", "many"],
)
async def test_header_bombs_are_refused(server: Listening, bomb: bytes) -> None:
    async with server.connect() as client:
        await client.send(bomb)
        answer = await client.answer()
    assert answer.status in {400, 431}
    assert_problem(answer, answer.status)


async def test_headers_that_never_end_are_cut_off_before_they_fill_the_memory(server: Listening) -> None:
    async with server.connect() as client:
        await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        await client.send(*(b"X-%d: %b\r\n" % (n, b"y" * 4_000) for n in range(5_000)))  # 20 MB
        last = await client.closed()  # nothing where the answer was lost with the connection
    assert not last or last.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


async def test_a_body_that_never_ends_is_408(server: Listening) -> None:
    answer = await server.ask(post(b'{"workflow": ', length=1_000))
    assert assert_problem(answer, 408)["code"] == "body_too_slow"
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % WORKFLOW
    assert_problem(await server.ask(head, b"1\r\n{\r\n"), 408)


async def test_a_body_that_is_too_large_is_413_declared_or_not(server: Listening) -> None:
    assert_problem(await server.ask(post(b"", length=10**9)), 413)
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % WORKFLOW
    answer = await server.ask(head, *[b"1000\r\n%b\r\n" % (b"x" * 0x1000)] * 33, b"0\r\n\r\n")
    assert assert_problem(answer, 413)["code"] == "body_too_large"


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"nonsense", b"identity, gzip"])
@pytest.mark.parametrize("path", [WORKFLOW, b"/health", b"/nowhere", b"/mcp"])
async def test_an_encoded_body_is_415_and_the_connection_ends(
    server: Listening, encoding: bytes, path: bytes
) -> None:
    bomb = zlib.compress(b" " * 50_000_000)
    async with server.connect() as client:
        await client.send(post(bomb, b"Content-Encoding: %b" % encoding, path=path))
        assert assert_problem(await client.answer(), 415)["code"] == "content_encoding"
        assert await client.closed() == b""


async def test_identity_is_no_encoding(server: Listening) -> None:
    answer = await server.ask(post(b"[]", b"Content-Encoding: identity"))
    assert assert_problem(answer, 400)["message"] == "The body is not a JSON object."


async def test_a_request_that_is_refused_before_its_body_came_ends_its_connection(server: Listening) -> None:
    async with server.connect() as client:
        await client.send(post(b"x" * 1000, length=10**9))
        answer = await client.answer()
        assert_problem(answer, 413)
        assert answer.headers["Connection"] == "close"
        assert await client.closed() == b""


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"workflow":' * 5_000,
        b'{"workflow": {"1": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        b'{"workflow": ' + b"9" * 6_000 + b"}",
        b'{"workflow": {"1": {"class_type": "EmptyImage", "inputs": {"width": ' + b"9" * 6_000 + b"}}}}",
        b'{"workflow": Infinity}',
        '{"workflow": {}}'.encode("utf-16"),
        b'\xef\xbb\xbf{"workflow": {}}',
        b"\x00" * 100,
    ],
)
async def test_malformed_json_is_400(server: Listening, body: bytes) -> None:
    assert_problem(await server.ask(post(body)), 400)


def chunked(body: bytes, size: int) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % WORKFLOW
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    sent = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + sent


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"])
async def test_a_body_in_crumbs_is_refused_and_its_connection_ends(server: Listening, end: bytes) -> None:
    """Each chunk takes its time, however few bytes it has."""
    async with server.connect() as client:
        await client.send(chunked(b"[" * (MOST_CRUMBS + 1), 1) + end)
        problem = assert_problem(await client.answer(), 400)
        assert "in chunks of less than" in problem["message"]
        assert await client.closed() == b""


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_body_in_chunks_is_taken(server: Listening, size: int) -> None:
    body = json.dumps({"workflow": picture()}).encode()
    answer = await server.ask(chunked(body, size) + b"0\r\n\r\n")
    assert answer.status == 202, answer.data


async def test_chunks_behind_a_refusal_are_not_parsed(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = parsed_sizes(monkeypatch)
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n" % WORKFLOW
    async with server.connect() as client:
        await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert_problem(await client.answer(), 415)
        before = sum(sizes)
        await client.send(b"1\r\n[\r\n" * 10_000)
        assert await client.closed() == b""
    assert sum(sizes) == before


def parsed_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each step of the sidecar from now on."""
    sizes: list[int] = []
    parse = RequestHandler.data_received

    def parsed(self: RequestHandler, data: bytes) -> None:
        if type(self) is not RequestHandler:  # those of the engine are
            sizes.append(len(data))
        parse(self, data)

    monkeypatch.setattr(RequestHandler, "data_received", parsed)
    return sizes


@pytest.mark.parametrize(("slow_from_s", "grows"), [(-1.0, False), (1e9, True)])
async def test_a_connection_is_parsed_in_small_steps_until_they_are_quick(
    server: Listening, monkeypatch: pytest.MonkeyPatch, slow_from_s: float, grows: bool
) -> None:
    sizes = parsed_sizes(monkeypatch)
    monkeypatch.setattr(runner, "STEP_S", slow_from_s)
    monkeypatch.setattr(runner, "QUICK_S", slow_from_s)
    assert_problem(await server.ask(chunked(b" " * 100_000, 10_000) + b"0\r\n\r\n"), 400)
    assert sizes[0] <= runner.FIRST_READ
    assert (max(sizes) > runner.FIRST_READ) is grows, sizes


async def test_a_connection_whose_bytes_take_long_to_parse_is_answered(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STEP_S", -1.0)
    monkeypatch.setattr(runner, "QUICK_S", -1.0)
    async with server.connect() as client:
        for _ in range(3):
            await client.send(post(b"[" * 10_000))
            assert_problem(await client.answer(), 400)


async def test_a_body_in_chunks_that_is_too_large_is_413(server: Listening) -> None:
    assert_problem(await server.ask(chunked(b" " * 400_000, 4_096)), 413)


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": "urgent"},
        {"priority": ["high"]},
        {"gpu": "tpu"},
        {"gpu": {}},
        {"idempotencyKey": 5},
        {"path": 5},
        {"workflow": {"1": None}},
        {"workflow": {"1": {"class_type": 5}}},
        {"workflow": {"1": {"class_type": "SaveImage", "inputs": []}}},
        {"workflow": {"": {"class_type": "SaveImage", "inputs": {"images": ["1", -1]}}}},
        {"workflow": {"1": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}},
    ],
)
async def test_wrong_types_and_unknown_values_are_400(server: Listening, wrong: dict[str, Any]) -> None:
    body = json.dumps({"workflow": picture(), **wrong}).encode()
    assert_problem(await server.ask(post(body)), 400)


async def test_half_a_character_is_a_name_that_no_workflow_has(server: Listening) -> None:
    problem = assert_problem(await server.ask(post(b'{"workflow": "\\ud800"}')), 404)
    assert "no workflow" in problem["message"]


@pytest.mark.parametrize(
    "query",
    [
        "workflows?status=sleeping",
        "workflows?limit=0",
        "workflows?limit=1e9",
        "workflows?since=yesterday",
        f"workflows?since={10**30}",
        "workflows?cursor=%00",
        "workflows?limit=1&limit=2",
        f"workflows?client={'x' * 200}",
        "outputs?type=poem",
        "outputs?cursor=eyJiZWZvcmUiOiB7fX0",
        "models?type=..%2f..",
        f"outputs?limit={'9' * 5000}x",
        f"workflow/{'x' * 500}",
        "workflow/x/wait?timeoutS=-1",
        "workflow/x/wait?timeout_s=nan",
    ],
)
async def test_queries_that_make_no_sense_are_400(server: Listening, query: str) -> None:
    request = f"GET /v1/comfyui/{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert_problem(await server.ask(request.encode()), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../v1/status",
        "/docs/..%2fv1%2fstatus",
        "/docs/%2e%2e/openapi.py",
        "/docs/..%5c..%5csettings.py",
        "/docs/%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/comfyui/workflow/..%2f..%2fetc",
        "//evil.example/health",
    ],
)
async def test_paths_that_climb_are_404(server: Listening, path: str) -> None:
    answer = await server.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert_problem(answer, 404)


async def test_a_client_that_never_reads_its_answers_is_cut_off(server: Listening) -> None:
    """Pipelined requests whose answers nobody takes: what waits is bounded by the sockets."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
    writer.write(request * 400)
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionError):
            await keep_writing(writer)
    writer.transport.abort()


async def keep_writing(writer: asyncio.StreamWriter) -> None:
    """Until the other side has hung up."""
    while True:
        writer.write(b"GET /health HTTP/1.1\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def test_hundreds_of_connections_that_send_nothing_keep_nobody_out(server: Listening) -> None:
    async with asyncio.timeout(30):
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(300)]
        assert (await server.ask(HEALTH)).status == 200
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize("length", [1, 64, 129])
async def test_a_request_id_comes_back_unless_it_would_garble_a_log(server: Listening, length: int) -> None:
    shown = "r" * length
    request = f"GET /nope HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {shown}\r\n\r\n"
    given = (await server.ask(request.encode())).headers["X-Request-ID"]
    assert (given == shown) is (length <= 128)
    assert 0 < len(given) <= 128


async def test_no_answer_to_head_has_a_body(server: Listening) -> None:
    """On a connection that stays open, the client would take the bytes for the next answer."""
    ended = await server.ask(post(json.dumps({"workflow": picture()}).encode(), b"Prefer: wait=30"))
    job = ended.body["workflowId"]
    index = await server.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    paths = [each["path"] for each in index.body["endpoints"] if "GET" in each["methods"]]
    assert "/api/v2/jobs/{jobId}/events" in paths
    for path in paths:
        asked = f"HEAD {re.sub('{.*?}', job, path)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        async with server.connect() as client:
            await client.send(asked.encode())
            head, _, body = (await client.closed()).partition(b"\r\n\r\n")
        assert (head[:7], body) == (b"HTTP/1.", b""), path


async def test_no_answer_names_the_library_that_made_it(server: Listening) -> None:
    for sent in (HEALTH, b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n", BROKEN_HTTP[0]):
        answer = await server.ask(sent)
        assert "aiohttp" not in str(answer.headers).lower()
