"""What the client makes of engines that answer badly, late, half or not at all."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import (
    BridgeError,
    EngineBadAnswer,
    EngineUnreachable,
    ErrorCode,
)
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.comfyui.client import SMALL_BYTES, ComfyUIClient
from comfy_mcp.settings import Settings
from tests.support.fake_engine import Answer, FakeEngine, cut, half, html, in_turn, reply

SettingsFor = Callable[..., Settings]
Call = Callable[[ComfyUIClient], Awaitable[object]]
P = PromptId("39e541e8-7269-4222-bb3e-27766ba9488b")
GRAPH: dict[str, Any] = {"1": {"class_type": "EmptyImage", "inputs": {}}}
FILE = OutputFile(kind=OutputKind.IMAGE, filename="a b.png", subfolder="h/ü", folder_type="temp")


def post(client: ComfyUIClient) -> Awaitable[object]:
    return client.post_prompt(GRAPH, prompt_id=P, client_id="c")


def upload(client: ComfyUIClient) -> Awaitable[object]:
    return client.upload_image("a.png", _chunks(b"x"))


async def view(client: ComfyUIClient) -> object:
    async with client.view(FILE) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


def read(client: ComfyUIClient) -> Awaitable[object]:
    return client.read_file(FILE, limit=2**20)


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


ENDPOINTS: dict[str, Call] = {
    "POST /prompt": post,
    "GET /queue": lambda client: client.queue(),
    "GET /prompt": lambda client: client.prompt_count(),
    f"GET /history/{P}": lambda client: client.history(P),
    "POST /interrupt": lambda client: client.interrupt(P),
    "POST /queue": lambda client: client.delete_pending([P]),
    "GET /object_info": lambda client: client.object_info(),
    "GET /models": lambda client: client.model_folders(),
    "GET /models/loras": lambda client: client.models("loras"),
    "GET /system_stats": lambda client: client.system_stats(),
    "POST /free": lambda client: client.free(),
    "POST /upload/image": upload,
    "GET /view": view,
}
every_endpoint = pytest.mark.parametrize(
    ("endpoint", "call"), [*ENDPOINTS.items(), ("GET /view", read)], ids=[*ENDPOINTS, "GET /view at once"]
)


@every_endpoint
async def test_a_500_is_a_bad_answer_that_names_engine_endpoint_and_status(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    engine.answers[endpoint] = html(500)
    with pytest.raises(EngineBadAnswer) as caught:
        await call(client)
    assert caught.value.code is ErrorCode.ENGINE_BAD_ANSWER
    assert "Engine fake" in caught.value.message
    assert "500" in caught.value.message
    assert endpoint.rpartition("/")[0] in caught.value.message
    assert len(engine.requests_to(endpoint)) == 1


_SAYS_NOTHING = {"POST /interrupt", "POST /queue", "POST /free"}
_SAYS_SOMETHING = {
    endpoint: call for endpoint, call in ENDPOINTS.items() if endpoint not in {*_SAYS_NOTHING, "GET /view"}
}
with_a_body = pytest.mark.parametrize(("endpoint", "call"), _SAYS_SOMETHING.items(), ids=_SAYS_SOMETHING)


@with_a_body
async def test_html_with_a_200_is_a_bad_answer(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    engine.answers[endpoint] = html(200)
    with pytest.raises(EngineBadAnswer, match="text/html that is not JSON"):
        await call(client)


@with_a_body
async def test_json_of_another_shape_is_a_bad_answer(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    engine.answers[endpoint] = reply("7")
    with pytest.raises(EngineBadAnswer, match="Engine fake"):
        await call(client)


@with_a_body
async def test_an_empty_200_is_a_bad_answer(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    engine.answers[endpoint] = reply("")
    with pytest.raises(EngineBadAnswer, match="Engine fake"):
        await call(client)


@every_endpoint
async def test_half_an_answer_is_a_bad_answer(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    if endpoint in _SAYS_NOTHING:
        engine.answers[endpoint] = half(b"")
        await call(client)  # its 200 is all that there is to know
        return
    engine.answers[endpoint] = half()
    with pytest.raises(EngineBadAnswer, match="incomplete"):
        await call(client)


@every_endpoint
async def test_point_12_an_engine_that_never_answers_is_unreachable_after_the_timeout(
    engine: FakeEngine, settings_for: SettingsFor, endpoint: str, call: Call
) -> None:
    engine.answers[endpoint] = engine.hang
    settings = settings_for(engine.url, request_timeout_s=0.2)
    async with ComfyUIClient(settings.engines[0], settings) as client:
        with pytest.raises(EngineUnreachable, match="no answer in time"):
            await call(client)
    assert len(engine.requests_to(endpoint)) <= 1  # none: this machine had no time for it


@every_endpoint
async def test_point_12_an_engine_that_is_down_is_unreachable(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    await engine.stop()
    with pytest.raises(EngineUnreachable, match=r"no connection \(Connection refused\)") as caught:
        await call(client)
    assert "COMFYUI_URL" in caught.value.next_step


@every_endpoint
async def test_a_broken_connection_is_tried_again_for_a_get_and_never_for_a_post(
    engine: FakeEngine, client: ComfyUIClient, endpoint: str, call: Call
) -> None:
    engine.answers[endpoint] = cut
    with pytest.raises(EngineUnreachable, match="the connection broke"):
        await call(client)
    tries = len(engine.requests_to(endpoint))
    assert tries == 1 if endpoint.startswith("POST") else tries <= 4


async def test_a_get_survives_one_broken_connection(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.answers["GET /models"] = in_turn(cut, reply(["loras"]))
    assert await client.model_folders() == ("loras",)


async def test_an_answer_above_its_limit_is_not_read_on(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.answers["GET /prompt"] = reply(b" " * (SMALL_BYTES + 1))
    with pytest.raises(EngineBadAnswer, match=f"larger than {SMALL_BYTES} bytes"):
        await client.prompt_count()


async def test_a_redirect_is_not_followed(engine: FakeEngine, client: ComfyUIClient) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/prompt")

    engine.answers["GET /queue"] = engine.answers["GET /view"] = elsewhere
    for call in (lambda client: client.queue(), view, read):
        with pytest.raises(EngineBadAnswer, match="status 302"):
            await call(client)
    assert engine.requests_to("GET /prompt") == []


async def test_a_small_file_that_unfolds_is_bounded_by_what_it_becomes(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    """A proxy may compress what passes through it; its length is then that of the compressed bytes."""

    def packed(data: bytes) -> Answer:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(body=gzip.compress(data), headers={"Content-Encoding": "gzip"})

        return answer

    picture = b"0123456789" * 100
    engine.answers["GET /view"] = in_turn(packed(picture), packed(bytes(2**24)), packed(picture))
    assert await client.read_file(FILE, limit=2**20) == (picture, len(gzip.compress(picture)))
    with pytest.raises(EngineBadAnswer, match=f"larger than {2**20} bytes"):
        await client.read_file(FILE, limit=2**20)
    assert await client.read_file(FILE, limit=2**20) == (picture, len(gzip.compress(picture)))


async def test_what_is_not_http_is_a_bad_answer(settings_for: SettingsFor) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        settings = settings_for(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with ComfyUIClient(settings.engines[0], settings) as client:
            with pytest.raises(EngineBadAnswer, match="not HTTP as expected"):
                await client.prompt_count()


@every_endpoint
async def test_no_error_tells_a_secret(
    engine: FakeEngine, settings_for: SettingsFor, endpoint: str, call: Call
) -> None:
    settings = settings_for(engine.url, engine_token="hidden-token", engine_headers={"X-Key": "hidden-key"})
    async with ComfyUIClient(settings.engines[0], settings) as client:
        engine.answers[endpoint] = html(500)
        with pytest.raises(BridgeError) as bad:
            await call(client)
        engine.answers[endpoint] = cut
        with pytest.raises(BridgeError) as broken:
            await call(client)
    for error in (bad.value, broken.value):
        assert "hidden" not in f"{error!r} {error} {error.details} {error.__cause__!r}"
    assert "authorization" in engine.requests[0].headers
