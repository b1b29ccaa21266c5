"""A folder that does not answer, as one of a network may, delays only what lies in it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.daemon_threads import Apart
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.library import OutputData, outputs, path_guard
from comfy_mcp.library.outputs import OutputFiles
from comfy_mcp.library.path_guard import open_inside
from comfy_mcp.settings import EngineSettings, Settings
from tests.support.file_server import FakeServer, output_of

LIMIT_S = 30.0
MANY = 60
"""More than asyncio has threads."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutputFiles]:
    """The folder of the engine `bad` hangs; both engines serve their files over HTTP too."""
    go_on = threading.Event()

    def hangs(path: Path, roots: Any) -> Any:
        if roots[0] == tmp_path / "bad":
            go_on.wait(LIMIT_S)
        return open_inside(path, roots)

    monkeypatch.setattr(outputs, "open_inside", hangs)
    monkeypatch.setattr(path_guard, "open_inside", hangs)
    engines = []
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"disk")
        url, ws_url = "http://127.0.0.1:1", "ws://127.0.0.1:1"
        engines.append(EngineSettings(id=EngineId(name), url=url, ws_url=ws_url, outputs_dir=tmp_path / name))
    server = FakeServer(files={"output//a.png": b"http"})
    made = OutputFiles(
        Settings(engine_urls=(), request_timeout_s=LIMIT_S), engines={each.id: server for each in engines}
    )
    made.know(engines)
    made._disks[tmp_path / "bad"] = Apart("outputs", limit_s=0.2)  # the good one has all the time
    yield made
    go_on.set()


async def whole(files: OutputFiles, output: Output) -> OutputData:
    return await files.read(output)


async def small(files: OutputFiles, output: Output) -> OutputData:
    data = await files.read_small(output, limit=100)
    assert data is not None
    return data


@pytest.mark.parametrize("look", [whole, small])
async def test_a_folder_that_hangs_delays_only_what_lies_in_it(
    files: OutputFiles, look: Callable[[OutputFiles, Output], Coroutine[Any, Any, OutputData]]
) -> None:
    good, bad = (replace(output_of("a.png"), engine=EngineId(name)) for name in ("good", "bad"))
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        waiting = [group.create_task(look(files, bad)) for _ in range(MANY)]
        while not [each for each in threading.enumerate() if each.name == "outputs"]:
            await asyncio.sleep(0)
        assert (await look(files, good)).data == b"disk"
        assert await asyncio.to_thread(int, "7") == 7
    assert {each.result().data for each in waiting} == {b"http"}
