"""The sidecar as a process: how it starts, what it keeps in memory, what it logs, how it goes."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from comfy_mcp.domain.access import ALL_RIGHTS, ApiKey, digest_of
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from http_sidecar.process import runner
from http_sidecar.process.serve import serve
from tests.support.files_engine import NAME, PATH, FilesEngine, Zeros, record_output
from tests.support.graphs import picture, slow
from tests.support.raw_http import listening
from tests.support.serve_process import Served, serve_process
from tests.support.warm_python import WARM_PYTHON

WORKFLOW = "/v1/comfyui/workflow"
LIMIT_S = 60.0
MB = 10**6


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[str]:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        yield engine.url


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as session:
        yield session


async def submit(http: aiohttp.ClientSession, served: Served, graph: dict[str, Any], **headers: str) -> str:
    async with http.post(f"{served.url}{WORKFLOW}", json={"workflow": graph}, headers=headers) as answer:
        assert answer.status == 202
        return str((await answer.json())["workflowId"])


class Stalled:
    """An upload that has begun and comes to its end when the test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def content(self) -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        self.begun.set()
        await self.goes_on.wait()
        yield b"end"

    async def send(self, http: aiohttp.ClientSession, served: Served) -> int:
        """The status; 0 when the connection was cut."""
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("image", self.content(), filename="late.bin")
        try:
            async with http.post(f"{served.url}/v1/comfyui/inputs", data=form) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0


async def test_sigterm_refuses_submits_ends_streams_and_leaves_the_running_to_the_next_process(
    tmp_path: Path, engine: str, http: aiohttp.ClientSession
) -> None:
    async with serve_process(tmp_path, engine) as served, asyncio.TaskGroup() as group:
        job = await submit(http, served, slow(steps=150))
        upload = Stalled()
        uploading = group.create_task(upload.send(http, served))
        await upload.begun.wait()
        sse = await http.get(f"{served.url}{WORKFLOW}/{job}/events?since=0")
        started = await sse.content.readuntil(b"workflow:started")
        assert b"id:" in started
        socket = await http.ws_connect(f"{served.url}/v1/comfyui/stream")
        waiting = group.create_task(wait_for(http, served, job))
        await until_busy(http, served)

        served.terminate()
        assert (await sse.content.read()).endswith(b"\n\n"), "whole messages to the last"
        async with asyncio.timeout(LIMIT_S):
            while not (await socket.receive()).type.name.startswith("CLOS"):
                continue
        assert socket.close_code == 1001
        assert (await waiting)["status"] == "running"
        async with http.post(f"{served.url}{WORKFLOW}", json={"workflow": picture()}) as refused:
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert (await refused.json())["code"] == "shutting_down"
        async with http.get(f"{served.url}/ready") as ready:
            assert (ready.status, (await ready.json())["ready"]) == (503, False)
        async with http.get(f"{served.url}{WORKFLOW}/{job}") as state:
            assert state.status == 200, "what only reads is answered to the end"
        upload.goes_on.set()
        assert await uploading == 201, "what has begun may end"
        assert await served.ended() == 0
        assert not served.logged("drain_cut_short")
    async with serve_process(tmp_path, engine) as following:
        state_at_end = await wait_for(http, following, job)
    assert (state_at_end["status"], state_at_end["attempt"]) == ("completed", 1), "the same prompt went on"


async def wait_for(http: aiohttp.ClientSession, served: Served, job: str) -> dict[str, Any]:
    async with http.get(f"{served.url}{WORKFLOW}/{job}/wait?timeoutS=50") as answer:
        assert answer.status == 200
        return dict(await answer.json())


async def until_busy(http: aiohttp.ClientSession, served: Served) -> None:
    """What was sent before has been begun: something later has been answered."""
    async with http.get(f"{served.url}/health") as answer:
        assert answer.status == 200


async def test_a_signal_in_the_moment_that_it_says_it_serves_is_heard(tmp_path: Path, engine: str) -> None:
    async with serve_process(tmp_path, engine) as served:
        served.terminate()
        assert await served.ended() == 0
    assert served.logged("http_drains")


async def test_what_does_not_end_is_cut_off_at_the_deadline(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        FilesEngine().listening() as url,
        serve_process(tmp_path, url, DRAIN_TIMEOUT_S=0.2) as served,
        asyncio.TaskGroup() as group,
    ):
        upload = Stalled()
        uploading = group.create_task(upload.send(http, served))
        await upload.begun.wait()
        await until_busy(http, served)
        served.terminate()
        assert await served.ended() == 0
        assert served.logged("drain_cut_short")
        upload.goes_on.set()
        assert await uploading != 201


async def test_memory_stays_flat_for_a_large_output_from_engine_and_disk(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    size = 200 * MB
    files = FilesEngine(files={"remote.mp4": Zeros(size), "warm.mp4": Zeros(5 * MB)})
    with (outputs / "disk.mp4").open("wb") as sparse:
        sparse.truncate(size)
    async with files.listening() as url:
        settings = load_settings(engine_urls=f"{NAME}={url}", state_dir=tmp_path / "state")
        async with open_runtime(settings, drive=False) as services:
            lease = await services.store.acquire_lease(EngineId(NAME), "test", 3_600)
            assert lease is not None
            sizes = {"warm.mp4": 5 * MB, "remote.mp4": size, "disk.mp4": size}
            for name, bytes_ in sizes.items():
                await record_output(services, lease, name, size=bytes_)
        async with serve_process(tmp_path, f"{NAME}={url}", OUTPUTS_DIR=outputs, RETENTION_DAYS=0) as served:
            assert await length(http, served, "warm.mp4") == 5 * MB
            before = served.peak_bytes()
            for name in ("remote.mp4", "disk.mp4"):
                assert await length(http, served, name) == size
            grown = served.peak_bytes() - before
    assert grown < 32 * MB
    assert files.sent == size + 5 * MB


async def length(http: aiohttp.ClientSession, served: Served, name: str) -> int:
    async with http.get(f"{served.url}{PATH}/{name}") as answer:
        assert answer.status == 200
        return sum([len(chunk) async for chunk in answer.content.iter_any()])


async def test_log_lines_have_who_what_and_which_request_and_no_secret(
    tmp_path: Path, engine: str, http: aiohttp.ClientSession
) -> None:
    secret, guess = "the-key-of-the-settings", "a-guess-that-is-wrong"
    async with serve_process(tmp_path, engine, HTTP_KEY=secret, CLIENT_NAME="me") as served:
        job = await submit(http, served, picture(), **{"X-API-Key": secret, "X-Request-ID": "mine-1"})
        for headers in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": guess}):
            async with http.get(f"{served.url}{WORKFLOW}/{job}?ticket=hidden-one", headers=headers) as answer:
                given = answer.headers["X-Request-ID"]
        served.terminate()
        await served.ended()
    lines = served.logged("request")
    posted = next(line for line in lines if line["method"] == "POST")
    assert (posted["request_id"], posted["client"], posted["status"]) == ("mine-1", "me", 202)
    assert posted["route"] == WORKFLOW
    refused = next(line for line in lines if line["request_id"] == given)
    assert (refused["status"], refused["job_id"], refused.get("client")) == (401, job, None)
    assert refused["route"] == f"{WORKFLOW}/{{workflowId}}"
    said = json.dumps(served.log)
    assert not [word for word in (secret, guess, "hidden-one") if word in said]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_another_address_than_loopback_needs_a_key(tmp_path: Path, host: str) -> None:
    settings = load_settings(engine_urls="http://127.0.0.1:9", state_dir=tmp_path / "state")
    with pytest.raises(InvalidInput, match="loopback only") as raised:
        await serve(settings, host=host, port=0)
    assert raised.value.code is ErrorCode.CONFIGURATION
    assert "keys add" in raised.value.next_step


async def test_an_address_may_end_with_a_slash(
    tmp_path: Path, engine: str, http: aiohttp.ClientSession
) -> None:
    client = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    accept = {"Accept": "application/json, text/event-stream"}
    async with serve_process(tmp_path, engine) as served:
        async with http.post(f"{served.url}/mcp/", json=hello, headers=accept) as answer:
            assert answer.status == 200
        for path, status in {
            "/": 200,
            "/health/": 200,
            "/v1/comfyui/outputs//?limit=3": 200,
            "//": 200,
        }.items():
            async with http.get(URL(f"{served.url}{path}", encoded=True)) as answer:
                assert answer.status == status, path


async def test_two_colons_are_every_address_of_both_families(
    tmp_path: Path, engine: str, http: aiohttp.ClientSession
) -> None:
    command = (WARM_PYTHON, "-m", "comfy_mcp", "serve", "--host", "::", "--insecure")
    async with serve_process(tmp_path, engine, *command) as served:
        if not socket.has_dualstack_ipv6():  # then there is nothing to listen on
            assert await served.ended() == 2
            return
        port = served.url.rpartition(":")[2]
        async with http.get(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200


async def test_insecure_opens_the_door_when_told_so(
    tmp_path: Path, engine: str, http: aiohttp.ClientSession
) -> None:
    command = (WARM_PYTHON, "-m", "comfy_mcp", "serve", "--host", "0.0.0.0", "--insecure")
    async with serve_process(tmp_path, engine, *command) as served:
        port = served.url.rpartition(":")[2]
        async with http.get(f"http://127.0.0.1:{port}/v1/status") as answer:
            assert answer.status == 200
        served.terminate()
        assert await served.ended() == 0


async def test_settings_that_make_no_sense_end_it_with_2_and_say_which(tmp_path: Path) -> None:
    async with serve_process(tmp_path, "http://127.0.0.1:9", TRUSTED_PROXIES="proxy") as served:
        assert await served.ended() == 2
    assert any("TRUSTED_PROXIES" in line.get("text", "") for line in served.log)


@pytest.mark.parametrize("loss", ["deleted", "emptied", "damaged"])
async def test_a_lost_store_does_not_open_the_door_and_the_start_says_how_to_unlock(
    tmp_path: Path, engine: str, http: aiohttp.ClientSession, loss: str
) -> None:
    kept = await Store.open(load_settings(state_dir=tmp_path / "state"))
    await kept.add_key(ApiKey(name="ann", digest=digest_of("k"), rights=ALL_RIGHTS, created_at=1))
    await kept.close()
    store = tmp_path / "state" / "bridge.sqlite3"
    for file in store.parent.glob("bridge.sqlite3-*"):
        file.unlink()
    if loss == "deleted":
        store.unlink()
    else:
        store.write_bytes(b"" if loss == "emptied" else b"x" * 8192)
    async with serve_process(tmp_path, engine) as served:
        async with http.get(f"{served.url}/v1/status") as refused:
            assert refused.status == 401
        (line,) = served.logged("door_locked")
    assert "comfy-bridge keys add NAME" in line["meaning"]
    marker = tmp_path / "state" / "bridge.sqlite3.keys-required"
    assert marker.name in line["meaning"]
    marker.unlink()
    async with (
        serve_process(tmp_path, engine) as served,
        http.get(f"{served.url}/v1/status") as answer,
    ):
        assert answer.status == 200


async def test_silent_connections_are_bounded_closed_and_logged_once(tmp_path: Path, engine: str) -> None:
    """Under a limit of 256 open files, 400 connections that say nothing keep nobody out."""
    limited = ("sh", "-c", f"ulimit -n 256; exec {sys.executable} -m http_sidecar")
    async with serve_process(tmp_path, engine, *limited) as served:
        port = int(served.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(400)]
        async with aiohttp.ClientSession() as http, http.get(f"{served.url}/health") as answer:
            assert answer.status == 200
        descriptors = len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))
        for _, writer in silent:
            writer.close()
    assert descriptors < 256 - 64
    assert len(served.logged("connections_at_the_bound")) == 1
    assert sum(len(json.dumps(line)) for line in served.log) < 20_000


async def test_a_connection_without_a_first_request_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FIRST_HEADERS_S", 0.05)
    settings = load_settings(state_dir=tmp_path, engine_urls="http://127.0.0.1:1", rate_limit_per_minute=0)
    async with open_runtime(settings, drive=False) as services, listening(services, settings) as server:
        async with server.connect() as silent, server.connect() as half:
            await half.send(b"GET /health HTTP/1.1\r\nHost: localh")
            assert await silent.closed() == b""
            assert await half.closed() == b""
        monkeypatch.setattr(runner, "FIRST_HEADERS_S", 60.0)
        async with server.connect() as client:
            for _ in range(2):
                await client.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({"CORS_ORIGINS": "*"}, True), ({"CORS_ORIGINS": "*", "HTTP_KEY": "k"}, False), ({}, False)],
)
async def test_the_start_warns_that_every_web_page_gets_in(
    tmp_path: Path, engine: str, settings: dict[str, str], warned: bool
) -> None:
    async with serve_process(tmp_path, engine, **settings) as served:
        assert bool(served.logged("open_to_every_web_page")) is warned
