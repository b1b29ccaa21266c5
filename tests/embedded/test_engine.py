"""What the embedded engine does beyond ComfyUI's contract: its life, its limits, its own nodes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig, serve
from tests.contract.graphs import Graph, empty_image, node, quick
from tests.contract.harness import Engine


@asynccontextmanager
async def engine(base: Path, **limits: Any) -> AsyncIterator[Engine]:
    config = EngineConfig(base_directory=base, **limits)
    async with EmbeddedEngine(config) as embedded, aiohttp.ClientSession() as http:
        yield Engine("embedded", embedded.url, base, http)


def chain(length: int) -> Graph:
    graph: Graph = {"0": empty_image(2, 2)}
    for index in range(1, length):
        graph[str(index)] = node("ImageInvert", image=[str(index - 1), 0])
    graph["end"] = node("SaveImage", images=[str(length - 1), 0], filename_prefix="chain")
    return graph


async def test_two_engines_in_one_process_share_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path / "a") as one, engine(tmp_path / "b") as two:
        entry, _ = await one.run(quick("same/name"))
        assert await two.get("/history") == {}
        assert (await two.submit(quick("same/name"))).json["number"] == 0
        assert entry["outputs"]["2"]["images"][0]["filename"] == "name_00001_.png"


async def test_an_engine_that_is_not_started_has_no_url(tmp_path: Path) -> None:
    stopped = EmbeddedEngine(EngineConfig(base_directory=tmp_path))
    with pytest.raises(RuntimeError, match="not started"):
        _ = stopped.url
    await stopped.stop()


async def test_a_taken_port_is_an_error_and_leaves_nothing_running(tmp_path: Path) -> None:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path)) as first:
        second = EmbeddedEngine(EngineConfig(base_directory=tmp_path, port=first.port))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        with pytest.raises(RuntimeError):
            _ = second.port


async def test_stopping_interrupts_what_runs_and_says_goodbye_to_the_sockets(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        async with EmbeddedEngine(EngineConfig(base_directory=tmp_path)) as embedded:
            client = Engine("embedded", embedded.url, tmp_path, http)
            ws = await http.ws_connect(f"{embedded.url}/ws?clientId=a")
            running = asyncio.Event()
            reading = tasks.create_task(_read_to_the_end(ws, running))
            graph = client.slow(steps=10_000)
            await client.post("/prompt", {"prompt": graph, "client_id": "a"})
            await running.wait()
        types = await reading
        assert ws.close_code == 1001
        assert types[-3:] == ["execution_interrupted", "status", "executing"]


async def _read_to_the_end(ws: aiohttp.ClientWebSocketResponse, running: asyncio.Event) -> list[str]:
    types = []
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT:
            types.append(message.json()["type"])
            if types[-1] == "progress":
                running.set()
    return types


async def test_serve_runs_until_it_is_told_to_end(tmp_path: Path) -> None:
    urls: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(EngineConfig(base_directory=tmp_path), ready=urls.put_nowait))
        url = await urls.get()
        async with aiohttp.ClientSession() as http, http.get(f"{url}/prompt") as response:
            assert response.status == 200
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_module_prints_one_line_with_its_url_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "comfy_mcp.embedded", "--base-directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        process.terminate()
        assert process.stdout.read() == ""
        assert process.wait(60) == 0


async def test_a_reader_that_does_not_read_is_cut_off_and_holds_up_nobody(tmp_path: Path) -> None:
    async with engine(tmp_path, socket_queue=50) as client:
        host, port = client.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        key = base64.b64encode(b"0123456789abcdef").decode()
        writer.write(
            f"GET /ws?clientId=sleeper HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        # 600 nodes make tens of megabytes of progress_state, far more than any buffer on the way holds.
        long = await client.post("/prompt", {"prompt": chain(600), "client_id": "sleeper"})
        entry, _ = await client.run(quick())
        assert entry["status"]["completed"] is True
        assert (await client.entry(long.json["prompt_id"]))["status"]["completed"] is True
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()


async def test_graphs_may_be_deep(tmp_path: Path) -> None:
    async with engine(tmp_path) as client:
        answer = await client.submit(chain(3000))
        assert answer.status == 200
        entry = await client.eventually(
            lambda: client.get(f"/history/{answer.json['prompt_id']}"), lambda found: bool(found)
        )
        assert entry[answer.json["prompt_id"]]["status"]["completed"] is True


async def test_an_image_over_the_limit_fails_instead_of_filling_memory(tmp_path: Path) -> None:
    async with engine(tmp_path, max_pixels=100) as client:
        for graph in (
            {"1": empty_image(11, 10), "2": node("PreviewImage", images=["1", 0])},
            {
                "1": empty_image(10, 10),
                "3": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=2.0),
                "2": node("PreviewImage", images=["3", 0]),
            },
        ):
            entry, _ = await client.run(graph)
            kind, failure = entry["status"]["messages"][-1]
            assert kind == "execution_error"
            assert "limit of 100 pixels" in failure["exception_message"]


async def test_an_upload_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with engine(tmp_path, max_upload_bytes=1000) as client:
        form = aiohttp.FormData()
        form.add_field("image", b"x" * 2000, filename="big.bin")
        assert (await client.request("POST", "/upload/image", data=form)).status == 413
        assert (await client.get("/features"))["max_upload_size"] == 1000


async def test_the_history_forgets_the_oldest(tmp_path: Path) -> None:
    async with engine(tmp_path, history_limit=2) as client:
        ids = [(await client.run(quick()))[0]["prompt"][1] for _ in range(3)]
        assert list(await client.get("/history")) == ids[1:]


async def test_what_does_not_fit_in_the_cache_is_made_again(tmp_path: Path) -> None:
    async with engine(tmp_path, cache_pixels=100) as client:
        graph = {"1": empty_image(20, 20), "2": node("PreviewImage", images=["1", 0])}
        await client.run(graph)
        _, events = await client.run(graph)
        assert [e.data["nodes"] for e in events if e.type == "execution_cached"] == [["2"]]


async def test_the_failing_node_fails_as_it_is_told(tmp_path: Path) -> None:
    async with engine(tmp_path) as client:
        graph = {
            "1": empty_image(),
            "2": node("BridgeFail", image=["1", 0], message="no luck", exception_type="ValueError"),
            "3": node("PreviewImage", images=["2", 0]),
        }
        entry, _ = await client.run(graph)
        _, failure = entry["status"]["messages"][-1]
        assert failure["exception_message"] == "no luck\n"
        assert failure["exception_type"] == "ValueError"
        assert failure["node_type"] == "BridgeFail"
        assert failure["executed"] == ["1"]


async def test_a_node_that_runs_out_of_memory_passes_right_after_a_free_and_only_then(tmp_path: Path) -> None:
    graph = {
        "1": empty_image(),
        "2": node("BridgeFail", image=["1", 0], message="CUDA out of memory", until_freed=True),
        "3": node("PreviewImage", images=["2", 0]),
    }
    async with engine(tmp_path) as client:
        endings = []
        for free in (False, True, False):
            if free:
                await client.post("/free", {"unload_models": True, "free_memory": True})
            else:
                await client.run(quick("something/else"))  # a prompt uses the freed memory up
            entry, _ = await client.run(graph)
            endings.append(entry["status"]["status_str"])
            graph["1"] = empty_image(3, 3)
    assert endings == ["error", "success", "error"]


async def test_previews_have_the_size_of_the_setting(tmp_path: Path) -> None:
    async with engine(tmp_path, preview_size=32) as client, client.listen() as listener:
        prompt_id = await client.queued(client.slow(steps=1), listener)
        await listener.until_done(prompt_id)
        (preview,) = [e.data for e in listener.seen if e.type == "preview"]
        # The height and width in the JPEG's SOF0 marker.
        start = preview["image"].index(b"\xff\xc0")
        assert preview["image"][start + 5 : start + 9] == b"\x00\x20\x00\x20"


async def test_every_interrupt_of_a_running_prompt_takes_effect(tmp_path: Path) -> None:
    """ComfyUI loses some that come at the very start of a prompt."""
    async with engine(tmp_path) as client, client.listen() as listener:
        for _ in range(50):
            prompt_id = await client.queued(client.slow(), listener)
            await client.eventually(lambda: client.get("/queue"), lambda body: bool(body["queue_running"]))
            await client.post("/interrupt", {"prompt_id": prompt_id})
            events = await listener.until_done(prompt_id)
            assert events[-2].type == "execution_interrupted"


@pytest.mark.parametrize(
    "stray",
    [
        {"class_type": "EmptyImage"},
        {"class_type": "EmptyImage", "inputs": None},
        {"class_type": "EmptyImage", "inputs": []},
        node("LoadImage", image=5),
        node("EmptyImage", width=8, height=8, batch_size=1, color=0, no_such_input=["99", 0]),
    ],
)
async def test_prompts_that_end_the_worker_of_comfyui_do_not_end_ours(tmp_path: Path, stray: Any) -> None:
    """0.3.75 answers 200 and then never runs anything again, so this cannot be in the contract suite."""
    async with engine(tmp_path) as client:
        for graph in ({**quick(), "9": stray}, quick()):
            entry, _ = await client.run(graph)
            assert entry["status"]["completed"] is True


async def test_an_error_in_the_engine_itself_fails_the_prompt_and_not_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a bug")

    async with engine(tmp_path) as client:
        with monkeypatch.context() as patched:
            patched.setattr("comfy_mcp.embedded.execution.signatures", broken)
            entry, events = await client.run(quick())
        assert entry["status"]["status_str"] == "error"
        assert [event.type for event in events] == ["execution_start", "executing"]
        entry, _ = await client.run(quick())
        assert entry["status"]["completed"] is True


async def test_a_recorded_node_list_is_served_and_its_classes_run_that_the_engine_has(tmp_path: Path) -> None:
    async with engine(tmp_path / "a") as own:
        described = await own.get("/object_info")
    picture = {name: described[name] for name in ("EmptyImage", "SaveImage")}
    recorded = {**picture, "SaveVideo": {"input": {"required": {}}, "output": [], "output_node": True}}
    async with engine(tmp_path / "b", object_info=recorded) as tested:
        assert await tested.get("/object_info") == recorded
        assert await tested.get("/object_info/SaveVideo") == {"SaveVideo": recorded["SaveVideo"]}
        assert await tested.get("/object_info/ImageInvert") == {}
        entry, _ = await tested.run(quick("recorded/name"))
        assert entry["status"]["status_str"] == "success"
        listed = await tested.submit({"1": {"class_type": "SaveVideo", "inputs": {}}})
        assert listed.status == 400
        assert "serves a recorded node list and can't run SaveVideo" in listed.json["error"]["message"]
        absent = await tested.submit({"1": {"class_type": "ImageInvert", "inputs": {}}})
        assert absent.json["error"]["message"] == "Cannot execute because node ImageInvert does not exist."


async def test_a_user_s_files_are_kept_listed_and_never_outside_their_folder(tmp_path: Path) -> None:
    async with (
        EmbeddedEngine(EngineConfig(base_directory=tmp_path)) as engine,
        aiohttp.ClientSession(engine.url) as session,
    ):

        async def get(path: str) -> tuple[int, str]:
            async with session.get(URL(engine.url + path, encoded=True)) as answer:
                return answer.status, await answer.text()

        assert await get("/userdata") == (400, "Directory not provided")
        assert await get("/userdata?dir=workflows") == (404, "Directory not found")
        assert (await get("/userdata?dir=..%2F.."))[0] == 403
        for path, status in (("workflows%2Fsub%2Ffox.json", 200), ("..%2F..%2F..%2Fx", 403)):
            async with session.post(URL(f"{engine.url}/userdata/{path}", encoded=True), data=b"{}") as answer:
                assert answer.status == status
        assert await get("/userdata?dir=workflows&recurse=true") == (200, '["sub/fox.json"]')
        assert await get("/userdata?dir=workflows") == (200, "[]")
        assert '"size": 2' in (await get("/userdata?dir=workflows&recurse=true&full_info=true"))[1]
        assert await get("/userdata/workflows%2Fsub%2Ffox.json") == (200, "{}")
        assert (await get("/userdata/workflows%2Fnone.json"))[0] == 404
        assert (await get("/userdata/..%2F..%2F..%2Fx"))[0] == 403
