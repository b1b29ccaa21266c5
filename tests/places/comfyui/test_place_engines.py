"""The place on engines that really run prompts: the embedded one, and ComfyUI itself (marked `live`)."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    FailureKind,
    NodeExecuted,
    NodeStarted,
    PreviewFrame,
    PromptEnded,
    PromptInterrupted,
    PromptStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.places.protocol import Accepted, PromptWhere, Rejected
from comfy_mcp.settings import load_settings
from tests.support import graphs
from tests.support.real_comfyui import RealComfyUI

TXT2IMG = Path(__file__).parents[2] / "data" / "workflows" / "txt2img_tiny_ksampler.json"
E = TypeVar("E", bound=EngineEvent)
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def real_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealComfyUI]:
    with RealComfyUI(tmp_path_factory.mktemp("comfyui")) as server:
        yield server


class Running:
    """A place with its stream open."""

    def __init__(self, url: str, place: ComfyUIPlace) -> None:
        self.url = url
        self.place = place
        self.events: asyncio.Queue[EngineEvent] = asyncio.Queue()

    def hear(self, event: EngineEvent) -> None:
        self.events.put_nowait(event)

    async def until(self, kind: type[E], prompt_id: PromptId | None = None) -> tuple[list[EngineEvent], E]:
        """The events up to the first of this kind (of this prompt), and that one."""
        before: list[EngineEvent] = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = await self.events.get()
                if isinstance(event, kind) and prompt_id in {None, getattr(event, "prompt_id", None)}:
                    return before, event
                before.append(event)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Running]:
    settings = load_settings(engine_urls=(url,), connect_timeout_s=DEADLINE_S)
    place = ComfyUIPlace(settings.engines[0], settings)
    stream = Running(url, place)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(place.run(stream.hear))
        await stream.until(EngineConnected)
        yield stream
        task.cancel()
    await place.close()


@pytest.fixture(params=["embedded", pytest.param("real", marks=[pytest.mark.live, pytest.mark.timeout(600)])])
async def stream(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        if request.param == "real":
            url = request.getfixturevalue("real_comfyui").url
        else:
            embedded = EmbeddedEngine(EngineConfig(base_directory=tmp_path))
            url = (await stack.enter_async_context(embedded)).url
        yield await stack.enter_async_context(running(url))


def new_id() -> PromptId:
    return PromptId(str(uuid.uuid4()))


def picture(side: int = 64, *, color: int | None = None) -> dict[str, Any]:
    fresh = uuid.uuid4().int % 2**24 if color is None else color
    inputs = {"width": side, "height": side, "batch_size": 1, "color": fresh}
    return {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "lane/t"}},
    }


async def test_point_1_the_history_entry_is_there_at_the_end_of_every_run(stream: Running) -> None:
    for _ in range(20):
        prompt_id = new_id()
        assert await stream.place.submit(prompt_id, picture()) == Accepted(dropped={})
        before, _ended = await stream.until(PromptEnded, prompt_id)
        result = (await stream.place.lookup([prompt_id]))[prompt_id].result
        assert result is not None
        assert result.ending is PromptEnding.SUCCESS
        [executed] = [event for event in before if isinstance(event, NodeExecuted)]
        assert executed.outputs == result.outputs
        kinds = [type(event) for event in before]
        assert kinds.index(PromptStarted) < kinds.index(NodeStarted) < kinds.index(PromptSucceeded)


async def content_of(stream: Running, file: OutputFile) -> bytes:
    async with stream.place.client.view(file) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


async def test_files_come_over_http_with_their_size(stream: Running) -> None:
    prompt_id = new_id()
    await stream.place.submit(prompt_id, picture())
    await stream.until(PromptEnded, prompt_id)
    result = (await stream.place.lookup([prompt_id]))[prompt_id].result
    assert result is not None
    [file] = result.outputs
    assert (file.kind, file.subfolder, file.node) == (OutputKind.IMAGE, "lane", "2")
    content = await content_of(stream, file)
    assert content.startswith(b"\x89PNG")
    assert await stream.place.sizes([file]) == {file: len(content)}
    async with stream.place.client.view(file, byte_range="bytes=1-3") as answer:
        assert (answer.status, answer.content_length) == (206, 3)
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"PNG"


async def test_point_13_a_cached_run_gives_its_old_files(stream: Running) -> None:
    color = uuid.uuid4().int % 2**24
    first, second = new_id(), new_id()
    files = []
    for prompt_id in (first, second):
        await stream.place.submit(prompt_id, picture(color=color))
        await stream.until(PromptEnded, prompt_id)
        result = (await stream.place.lookup([prompt_id]))[prompt_id].result
        assert result is not None
        files.append(result.outputs)
    assert files[0] == files[1] != ()


async def test_a_refused_graph_is_explained(stream: Running) -> None:
    graph = picture()
    graph["1"]["inputs"]["width"] = 0
    answer = await stream.place.submit(new_id(), graph)
    assert isinstance(answer, Rejected)
    assert answer.failure.kind is FailureKind.VALIDATION
    assert answer.failure.message.startswith("node 1 (EmptyImage): ")
    assert "width" in answer.failure.message


async def test_a_bad_branch_is_named_and_the_good_one_runs(stream: Running) -> None:
    graph = picture() | {
        "3": {"class_type": "ImageInvert", "inputs": {}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "lane/t"}},
    }
    prompt_id = new_id()
    answer = await stream.place.submit(prompt_id, graph)
    assert isinstance(answer, Accepted)
    assert list(answer.dropped) == [NodeId("4")]
    await stream.until(PromptSucceeded, prompt_id)
    await stream.until(PromptEnded, prompt_id)


async def test_point_10_one_pending_prompt_is_cancelled_and_the_others_run(stream: Running) -> None:
    """A long run before them keeps the others pending; it is interrupted last, by its id."""
    busy, unwanted, wanted = new_id(), new_id(), new_id()
    await stream.place.submit(busy, slow_graph())
    await stream.until(NodeStarted, busy)
    await stream.place.submit(unwanted, picture())
    await stream.place.submit(wanted, picture())
    views = await stream.place.lookup([busy, unwanted, wanted])
    assert [views[prompt_id].where for prompt_id in (busy, unwanted, wanted)] == [
        PromptWhere.RUNNING, PromptWhere.PENDING, PromptWhere.PENDING,
    ]  # fmt: skip
    await stream.place.cancel(unwanted)
    await stream.place.cancel(busy)
    before, _ended = await stream.until(PromptEnded, busy)
    assert [event for event in before if isinstance(event, PromptInterrupted)] == [
        PromptInterrupted(prompt_id=busy)
    ]
    await stream.until(PromptEnded, wanted)
    views = await stream.place.lookup([busy, unwanted, wanted])
    assert [views[prompt_id].where for prompt_id in (busy, unwanted, wanted)] == [
        PromptWhere.FINISHED, PromptWhere.ABSENT, PromptWhere.FINISHED,
    ]  # fmt: skip
    result = views[busy].result
    assert result is not None
    assert result.ending is PromptEnding.INTERRUPTED


async def test_point_16_a_preview_tells_nothing_of_the_images_size(stream: Running) -> None:
    """It has the size of the engine's setting; what is said of an output comes from the output."""
    embedded = "BridgeSlowImage" in await stream.place.node_list.raw()
    prompt_id = new_id()
    graph = graphs.slow(steps=3, step_ms=1) if embedded else json.loads(TXT2IMG.read_text())
    await stream.place.submit(prompt_id, graph)
    _, preview = await stream.until(PreviewFrame, prompt_id)
    await stream.until(PromptEnded, prompt_id)
    result = (await stream.place.lookup([prompt_id]))[prompt_id].result
    assert result is not None
    [file] = result.outputs
    content = await content_of(stream, file)
    sizes = [Image.open(BytesIO(data)).size for data in (preview.data, content)]
    assert sizes == [(512, 512), (64, 64)]


async def test_who_takes_over_hears_the_rest_of_a_run_even_while_the_old_socket_is_open(
    stream: Running,
) -> None:
    """The engine sends to the newest socket of a client id: one more of the same id, that only listens."""
    prompt_id = new_id()
    await stream.place.submit(prompt_id, slow_graph())
    await stream.until(NodeStarted, prompt_id)
    async with running(stream.url) as successor:
        successor.place.follow({stream.place.stream_id, successor.place.stream_id})
        await successor.until(NodeStarted, prompt_id)
        await successor.place.cancel(prompt_id)
        await successor.until(PromptEnded, prompt_id)


async def test_point_3_after_a_confirmed_close_the_rest_of_a_run_arrives(stream: Running) -> None:
    """A close that the engine did not confirm gives a fresh id (decision 0005): one that it did is meant.

    Unconfirmed is one that the engine answers later than `connect_timeout_s`, which is a minute here, or not
    at all because the connection broke. Looked for without that minute, between runs that kept the engine
    busy and beside 4 to 14 other busy processes on two cores: confirmed 46 of 46 times on the embedded
    engine, after 0.7 s at most, and 40 of 40 times on ComfyUI 0.3.75, after 0.1 s at most.
    """
    for _ in range(5):
        prompt_id = new_id()
        client_id = stream.place.listener.client_id
        await stream.place.submit(prompt_id, slow_graph())
        await stream.until(NodeStarted, prompt_id)
        await stream.place.listener.reconnect()
        await stream.until(EngineDisconnected)
        await stream.until(EngineConnected)
        await stream.place.cancel(prompt_id)
        if stream.place.listener.client_id == client_id:
            break
    assert stream.place.listener.client_id == client_id
    await stream.until(PromptEnded, prompt_id)


def slow_graph() -> dict[str, Any]:
    """Work in many nodes on either engine: a cancel takes effect between two."""
    graph = picture(1536)
    last = "1"
    for number in range(10, 50):
        inputs = {"image": [last, 0], "upscale_method": "lanczos", "width": 1536, "height": 1536 - number}
        graph[str(number)] = {"class_type": "ImageScale", "inputs": inputs | {"crop": "disabled"}}
        last = str(number)
    graph["2"]["inputs"]["images"] = [last, 0]
    return graph
