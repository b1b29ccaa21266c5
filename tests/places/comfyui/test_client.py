"""The client against a scripted engine: what it sends and what it understands."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.catalog import Model, OutputFile, OutputKind
from comfy_mcp.domain.errors import (
    EngineBadAnswer,
    EngineUnreachable,
    ErrorCode,
    InvalidInput,
    NotFound,
)
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.protocol import Accepted, Rejected, UploadedFile
from comfy_mcp.settings import Settings
from tests.support import recordings
from tests.support.certificates import loopback_certificate
from tests.support.fake_engine import FakeEngine, cut, in_turn, reply

SettingsFor = Callable[..., Settings]
Call = Callable[[ComfyUIClient], Awaitable[object]]
P = PromptId("39e541e8-7269-4222-bb3e-27766ba9488b")
GRAPH: dict[str, Any] = {"1": {"class_type": "EmptyImage", "inputs": {}}}
FILE = OutputFile(kind=OutputKind.IMAGE, filename="a b.png", subfolder="h/ü", folder_type="temp")


def post(client: ComfyUIClient) -> Awaitable[object]:
    return client.post_prompt(GRAPH, prompt_id=P, client_id="c")


async def view(client: ComfyUIClient, file: OutputFile = FILE) -> object:
    async with client.view(file) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


async def read(client: ComfyUIClient, file: OutputFile = FILE) -> object:
    return await client.read_file(file, limit=10)


both_ways = pytest.mark.parametrize("view", [view, read], ids=["as a stream", "at once"])


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# ---------------------------------------------------------------------------- prompts


async def test_point_2_a_prompt_goes_out_with_our_id_and_client_id(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    answer = await client.post_prompt(GRAPH, prompt_id=P, client_id="c")
    assert answer == Accepted(dropped={})
    [request] = engine.requests_to("POST /prompt")
    assert request.json == {"prompt": GRAPH, "prompt_id": P, "client_id": "c"}


async def test_a_large_graph_goes_out_whole(engine: FakeEngine, client: ComfyUIClient) -> None:
    graph = {"1": {"class_type": "A", "inputs": {"text": "ü" * 2**20}}}
    await client.post_prompt(graph, prompt_id=P, client_id="c")
    assert engine.requests[-1].json["prompt"] == graph


@pytest.mark.parametrize("name", ["05", "v0.3.75/05"])
async def test_every_recorded_400_is_a_rejection_and_no_403_or_500_is(
    engine: FakeEngine, client: ComfyUIClient, name: str
) -> None:
    kinds = set()
    for exchange in recordings.exchanges(name):
        if exchange.method != "POST" or exchange.path != "/prompt":
            continue
        engine.answers["POST /prompt"] = reply(exchange.body, status=exchange.status)
        kinds.add(exchange.status)
        match exchange.status:
            case 200:
                assert isinstance(await post(client), Accepted)
            case 400:
                assert isinstance(await post(client), Rejected)
            case _:
                with pytest.raises(EngineBadAnswer):
                    await post(client)
    assert kinds == {200, 400, 403, 500}


async def test_a_400_that_is_not_the_engines_is_a_bad_answer(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    engine.answers["POST /prompt"] = reply({"detail": "from a proxy"}, status=400)
    with pytest.raises(EngineBadAnswer, match="a 400 without an error"):
        await post(client)


async def test_queue_count_and_history_are_read(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.running, engine.pending = ["r"], ["a", "b"]
    engine.histories[P] = {"outputs": {}, "status": {"status_str": "success"}}
    queue = await client.queue()
    assert (queue.running, queue.pending) == (("r",), ("a", "b"))
    assert await client.prompt_count() == 3
    result = await client.history(P)
    assert result is not None
    assert result.ending is PromptEnding.SUCCESS
    engine.answers["GET /history/a/b?c"] = reply({})
    assert await client.history(PromptId("a/b?c")) is None
    assert engine.requests[-1].path == "/history/a/b?c"


async def test_a_large_answer_is_read_whole(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.answers["GET /object_info"] = reply({"A": {"text": "x" * 2**20}})
    assert len((await client.object_info())["A"]["text"]) == 2**20


async def test_point_10_an_interrupt_always_names_its_prompt(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    await client.interrupt(P)
    await client.delete_pending([P])
    assert [json.loads(request.body) for request in engine.requests] == [{"prompt_id": P}, {"delete": [P]}]


# ---------------------------------------------------------------------------- files


async def test_a_file_is_streamed_with_its_head(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.answers["GET /view"] = reply(b"0123456789")
    async with client.view(FILE) as answer:
        assert (answer.status, answer.content_length) == (200, 10)
        assert answer.content_type == "application/octet-stream"
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"0123456789"
    [request] = engine.requests_to("GET /view")
    assert request.query == {"filename": "a b.png", "subfolder": "h/ü", "type": "temp"}


async def test_a_range_is_asked_for(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.answers["GET /view"] = reply(b"012", status=206)
    async with client.view(FILE, byte_range="bytes=0-2") as answer:
        assert answer.status == 206
    assert engine.requests[-1].headers["range"] == "bytes=0-2"


async def test_a_small_file_comes_at_once_with_the_length_that_the_engine_said(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    engine.answers["GET /view"] = reply(b"0123456789")
    settings = settings_for(f"{engine.url}?token=t", engine_token="secret")
    async with ComfyUIClient(settings.engines[0], settings) as client:
        assert await client.read_file(FILE, limit=10) == (b"0123456789", 10)
        assert await client.read_file(FILE, limit=9) is None
        assert await client.read_file(FILE, limit=10) == (b"0123456789", 10)
    for request in engine.requests_to("GET /view"):
        assert request.query == {"filename": "a b.png", "subfolder": "h/ü", "type": "temp", "token": "t"}
        assert request.headers["authorization"] == "Bearer secret"


async def test_a_file_of_unknown_length_or_in_part_does_not_come_at_once(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    async def in_chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"0123")
        return response

    engine.answers["GET /view"] = in_turn(in_chunks, reply(b"012", status=206), reply(b"0123"))
    assert await client.read_file(FILE, limit=10) is None
    assert await client.read_file(FILE, limit=10) is None
    assert await client.read_file(FILE, limit=10) == (b"0123", 4)


async def test_a_file_that_does_not_come_is_no_silence_of_the_engine(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    engine.answers["GET /view"] = engine.hang
    settings = settings_for(engine.url, request_timeout_s=0.2)
    async with ComfyUIClient(settings.engines[0], settings) as client:
        for look in (read, view):
            with pytest.raises(EngineUnreachable, match="no answer in time"):
                await look(client)
            assert client.transport.contact.silence() is None


@both_ways
async def test_a_file_that_the_engine_may_not_read_says_so(
    engine: FakeEngine, client: ComfyUIClient, view: Call
) -> None:
    engine.answers["GET /view"] = reply("", status=403)
    with pytest.raises(EngineBadAnswer) as caught:
        await view(client)
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE


@both_ways
async def test_a_name_that_comfyui_serves_to_nobody_is_not_called_gone(
    client: ComfyUIClient, engine: FakeEngine, view: Callable[..., Awaitable[object]]
) -> None:
    engine.answers["GET /view"] = reply("", status=400)
    with pytest.raises(EngineBadAnswer) as caught:
        await view(client, OutputFile(kind=OutputKind.IMAGE, filename="v1..final_00001_.png"))
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE
    assert "whose name has '..'" in caught.value.message
    assert "COMFYUI_OUTPUTS" in caught.value.next_step


@both_ways
@pytest.mark.parametrize("status", [400, 404])
async def test_a_file_that_is_gone_is_not_found(
    engine: FakeEngine, client: ComfyUIClient, status: int, view: Call
) -> None:
    engine.answers["GET /view"] = reply("", status=status)
    with pytest.raises(NotFound) as caught:
        await view(client)
    assert caught.value.code is ErrorCode.OUTPUT_GONE


@both_ways
async def test_a_range_outside_the_file_is_the_callers_fault(
    engine: FakeEngine, client: ComfyUIClient, view: Call
) -> None:
    engine.answers["GET /view"] = reply("", status=416)
    with pytest.raises(InvalidInput):
        await view(client)


async def test_a_size_is_asked_with_head(engine: FakeEngine, client: ComfyUIClient) -> None:
    engine.answers["HEAD /view"] = in_turn(reply(b"0123456789"), reply("", status=404))
    assert await client.view_size(FILE) == 10
    assert await client.view_size(FILE) is None


async def test_an_upload_is_streamed_and_the_engines_name_is_returned(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    engine.answers["POST /upload/image"] = reply({"name": "up (1).png", "subfolder": "s", "type": "input"})
    answer = await client.upload_image(
        'a"b.png', _chunks(b"first,", b"second"), size=12, subfolder="s", overwrite=True
    )
    assert answer == UploadedFile(name="up (1).png", subfolder="s", folder_type="input")
    [request] = engine.requests
    assert request.headers["transfer-encoding"] == "chunked"
    assert b"first,second" in request.body
    for name, value in {"type": b"input", "subfolder": b"s", "overwrite": b"true"}.items():
        part = next(part for part in request.body.split(b"\r\n--") if f'name="{name}"'.encode() in part)
        assert part.endswith(b"\r\n\r\n" + value)


# ---------------------------------------------------------------------------- what the engine has


async def test_models_come_with_size_where_the_engine_says_it_and_without_it_elsewhere(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    engine.answers["GET /experiment/models/loras"] = in_turn(
        reply([{"name": "a", "size": 3, "modified": 2.0}]), reply("", status=404)
    )
    engine.answers["GET /models/loras"] = reply(["a"])
    assert await client.experiment_models("loras") == (
        Model(name="a", type="loras", size=3, modified_at=2000),
    )
    assert await client.experiment_models("loras") == (Model(name="a", type="loras"),)


async def test_an_unknown_model_folder_is_not_found(client: ComfyUIClient) -> None:
    with pytest.raises(NotFound) as caught:
        await client.experiment_models("no/such")
    assert caught.value.code is ErrorCode.NOT_FOUND


async def test_the_rest_is_passed_on(engine: FakeEngine, client: ComfyUIClient) -> None:
    for path in ("/system_stats", "/object_info"):
        engine.answers[f"GET {path}"] = reply({"path": path})
    assert await client.system_stats() == {"path": "/system_stats"}
    assert await client.object_info() == {"path": "/object_info"}
    await client.free()
    assert engine.requests[-1].json == {"unload_models": True, "free_memory": True}


# ---------------------------------------------------------------------------- headers, URLs, TLS


async def test_configured_headers_go_out_and_an_origin_does_not(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    settings = settings_for(engine.url, engine_token="t", engine_headers={"X-Key": "k"})
    async with ComfyUIClient(settings.engines[0], settings) as client:
        await client.prompt_count()
        await post(client)
        socket = await client.transport.websocket("c")
        await socket.close()
    sent = [request.headers for request in engine.requests] + [engine.connections.get_nowait().headers]
    assert len(sent) == 3
    for headers in sent:
        assert (headers["authorization"], headers["x-key"]) == ("Bearer t", "k")
        assert "origin" not in headers


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\0b"])
def test_a_header_that_would_smuggle_another_is_refused(settings_for: SettingsFor, value: str) -> None:
    settings = settings_for("http://127.0.0.1:1", engine_headers={"X-Key": value})
    with pytest.raises(InvalidInput) as caught:
        ComfyUIClient(settings.engines[0], settings)
    assert caught.value.code is ErrorCode.CONFIGURATION


async def test_an_engine_below_a_path_is_reached_there(settings_for: SettingsFor) -> None:
    async with FakeEngine(prefix="/comfy/api") as engine:
        settings = settings_for(f"{engine.url}/")
        async with ComfyUIClient(settings.engines[0], settings) as client:
            assert await client.prompt_count() == 0
            socket = await client.transport.websocket("a b")
            await socket.close()
        assert engine.connections.get_nowait().client_id == "a b"


async def test_tls_is_checked_against_the_configured_authority(
    tmp_path: Path, settings_for: SettingsFor
) -> None:
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with FakeEngine(ssl_context=context) as engine:
        trusting = settings_for(engine.url, engine_ca_file=certificate)
        async with ComfyUIClient(trusting.engines[0], trusting) as client:
            assert await client.prompt_count() == 0
            socket = await client.transport.websocket("c")
            await socket.close()
        distrusting = settings_for(engine.url)
        async with ComfyUIClient(distrusting.engines[0], distrusting) as client:
            with pytest.raises(EngineUnreachable, match="certificate is not trusted") as caught:
                await client.prompt_count()
        assert "COMFY_BRIDGE_ENGINE_CA_FILE" in caught.value.next_step


def test_a_ca_file_that_can_not_be_read_is_a_configuration_error(
    tmp_path: Path, settings_for: SettingsFor
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        settings = settings_for("https://127.0.0.1:1", engine_ca_file=tmp_path / name)
        with pytest.raises(InvalidInput) as caught:
            ComfyUIClient(settings.engines[0], settings)
        assert caught.value.code is ErrorCode.CONFIGURATION


async def test_a_client_that_is_closed_under_a_request_says_that_the_engine_is_unreachable(
    engine: FakeEngine, client: ComfyUIClient
) -> None:
    """The engine was removed from the settings meanwhile."""

    async def closes(request: web.Request) -> web.StreamResponse:
        await client.close()
        return await cut(request)

    engine.answers["GET /system_stats"] = engine.answers["GET /view"] = closes
    with pytest.raises(EngineUnreachable):
        await client.system_stats()
    with pytest.raises(EngineUnreachable):
        await read(client)
