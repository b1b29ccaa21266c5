"""What a place does with the files that a graph names, before it is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import BridgeError, EngineUnreachable, LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.file_inputs import FOLDER
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.library.input_files import InputSource
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.settings import load_settings
from tests.support.files_engine import FilesEngine

NAME = f"{'ab' * 32}.png"
CHUNK_BYTES = 256 * 1024
VALUE = f"{FOLDER}/{NAME}"


def graph(*values: str) -> dict[str, Any]:
    return {str(n): {"class_type": "LoadImage", "inputs": {"image": each}} for n, each in enumerate(values)}


class Files:
    """The files that can be located. `opened`: how often one was read."""

    def __init__(self) -> None:
        self.known: dict[str, InputSource] = {}
        self.opened = 0
        self.breaks: Exception | None = None

    def add(self, value: str, name: str, data: bytes, **more: Any) -> None:
        self.known[value] = InputSource(name=name, size=len(data), open=lambda: self._open(data), **more)

    async def locate(self, value: str) -> InputSource:
        if value not in self.known:
            raise NotFound("It is gone.", next_step="Give it again.")
        return self.known[value]

    @asynccontextmanager
    async def _open(self, data: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened += 1

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), CHUNK_BYTES):
                yield data[at : at + CHUNK_BYTES]
            if self.breaks is not None:
                raise self.breaks

        yield chunks()


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
async def place(tmp_path: Path, files: Files) -> AsyncIterator[ComfyUIPlace]:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path)) as engine:
        settings = load_settings(engine_urls=f"one={engine.url}", state_dir=tmp_path / "state")
        place = ComfyUIPlace(settings.engines[0], settings, locate=files.locate)
        yield place
        await place.close()


async def test_a_graph_without_files_is_the_same_object(place: ComfyUIPlace) -> None:
    plain = graph("cat.png")
    assert await place.prepare(plain) is plain


async def test_a_file_is_brought_once(place: ComfyUIPlace, files: Files, tmp_path: Path) -> None:
    files.add(VALUE, NAME, b"abc")
    for _ in range(2):
        assert await place.prepare(graph(VALUE, VALUE)) == graph(VALUE, VALUE)
    assert (tmp_path / "input" / VALUE).read_bytes() == b"abc"
    assert files.opened == 1


async def test_what_an_upload_left_that_broke_off_is_replaced(
    place: ComfyUIPlace, files: Files, tmp_path: Path
) -> None:
    files.add(VALUE, NAME, b"abc")
    there = tmp_path / "input" / VALUE
    there.parent.mkdir(parents=True)
    there.write_bytes(b"ab")
    await place.prepare(graph(VALUE))
    assert there.read_bytes() == b"abc"
    assert [each.name for each in there.parent.iterdir()] == [NAME]


def output(name: str = "x.png", subfolder: str = "t") -> OutputFile:
    return OutputFile(kind=OutputKind.IMAGE, filename=name, subfolder=subfolder)


@pytest.mark.parametrize(("subfolder", "said"), [("t", "t/x.png [output]"), ("", "x.png [output]")])
async def test_an_output_of_the_same_engine_is_read_where_it_lies(
    place: ComfyUIPlace, files: Files, tmp_path: Path, subfolder: str, said: str
) -> None:
    value = f"{FOLDER}/output-1"
    files.add(value, "output-1.png", b"abc", engine=EngineId("one"), file=output(subfolder=subfolder))
    with pytest.raises(NotFound, match=r"no longer has the output 'x\.png'"):
        await place.prepare(graph(value))
    there = tmp_path / "output" / subfolder / "x.png"
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(b"another")
    with pytest.raises(NotFound):
        await place.prepare(graph(value))
    there.write_bytes(b"abc")
    assert await place.prepare(graph(value, "a.png")) == graph(said, "a.png")
    assert files.opened == 0


async def test_an_output_of_another_engine_is_brought(
    place: ComfyUIPlace, files: Files, tmp_path: Path
) -> None:
    value = f"{FOLDER}/output-1"
    files.add(value, "output-1.png", b"abc", engine=EngineId("two"), file=output())
    assert await place.prepare(graph(value)) == graph(f"{FOLDER}/output-1.png")
    assert (tmp_path / "input" / FOLDER / "output-1.png").read_bytes() == b"abc"


async def test_a_file_that_is_gone_is_said(place: ComfyUIPlace) -> None:
    with pytest.raises(NotFound, match="It is gone"):
        await place.prepare(graph(VALUE))


async def test_a_file_that_the_engine_would_refuse_is_not_sent(
    place: ComfyUIPlace, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def limit() -> int:
        return 4096

    monkeypatch.setattr(place.client, "upload_limit", limit)
    files.add(VALUE, NAME, b"abc")
    with pytest.raises(LimitExceeded, match="the engine takes 4096"):
        await place.prepare(graph(VALUE))
    assert files.opened == 0


class Stalls:
    """An engine that has no file and reads nothing of an upload, or only some of it."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self._over = asyncio.Event()

    async def missing(self, _request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def upload(self, request: web.Request) -> web.Response:
        self.reading.set()
        await request.content.read(1)
        await self._over.wait()
        if request.transport is not None:
            request.transport.abort()  # its end would wait for the rest of the file
        return web.Response()

    @asynccontextmanager
    async def place(self, folder: Path, files: Files) -> AsyncIterator[ComfyUIPlace]:
        app = web.Application()
        app.router.add_get("/view", self.missing)
        app.router.add_post("/upload/image", self.upload)
        async with TestServer(app) as server:
            settings = load_settings(
                engine_urls=str(server.make_url("")), state_dir=folder, request_timeout_s=0.3
            )
            place = ComfyUIPlace(settings.engines[0], settings, locate=files.locate)
            yield place
            await place.close()
            self._over.set()  # its server would wait a minute for the handler


async def test_an_engine_that_takes_nothing_of_a_file_is_a_fault(files: Files, tmp_path: Path) -> None:
    files.add(VALUE, NAME, bytes(64 * 2**20))  # more than the buffers on the way hold
    async with Stalls().place(tmp_path, files) as place:
        with pytest.raises(EngineUnreachable, match="took nothing of an input file for 0 s"):
            await place.prepare(graph(VALUE))


async def test_a_preparation_can_be_cancelled_in_the_middle(files: Files, tmp_path: Path) -> None:
    files.add(VALUE, NAME, bytes(64 * 2**20))
    engine = Stalls()
    async with engine.place(tmp_path, files) as place, asyncio.TaskGroup() as group:
        task = group.create_task(place.prepare(graph(VALUE)))
        await engine.reading.wait()
        task.cancel()
    assert task.cancelled()


@pytest.mark.parametrize(
    "fault",
    [
        StoreFault("The copy can't be read.", next_step="Wait."),
        EngineUnreachable("Engine two: no answer.", next_step="Wait."),
    ],
)
async def test_what_fails_where_the_file_comes_from_is_not_this_engines_fault(
    files: Files, tmp_path: Path, fault: BridgeError
) -> None:
    files.add(VALUE, NAME, b"abc")
    files.breaks = fault
    async with FilesEngine().listening() as url:
        settings = load_settings(engine_urls=url, state_dir=tmp_path)
        place = ComfyUIPlace(settings.engines[0], settings, locate=files.locate)
        with pytest.raises(type(fault)) as caught:
            await place.prepare(graph(VALUE))
        await place.close()
    assert caught.value is fault


async def test_an_engine_that_is_down_is_a_fault(files: Files, tmp_path: Path) -> None:
    settings = load_settings(engine_urls="http://127.0.0.1:9", state_dir=tmp_path, connect_timeout_s=1.0)
    place = ComfyUIPlace(settings.engines[0], settings, locate=files.locate)
    files.add(VALUE, NAME, b"abc")
    with pytest.raises(EngineUnreachable):
        await place.prepare(graph(VALUE))
    await place.close()
