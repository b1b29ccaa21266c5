"""Previews of one client, or of one engine that sends slowly, delay nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineUnreachable, LimitExceeded
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.library import outputs
from comfy_mcp.library.outputs import LARGE_FETCHES, SMALL_BYTES, SMALL_FETCHES, OutputFiles
from comfy_mcp.settings import Settings
from tests.support.file_server import FakeServer, output_of, png

MEAN, KIND = ClientId("mean"), ClientId("kind")
GOOD, BAD = EngineId("good"), EngineId("bad")
MANY = 40
LIMIT_S = 30.0

PICTURE = replace(output_of("a.png"), engine=GOOD)
SLOW = replace(output_of("slow.png"), engine=BAD)


class Dripping(FakeServer):
    """It never comes to the end of the file `slow.png`."""

    @asynccontextmanager
    async def view(self, file: OutputFile, *, byte_range: str | None = None) -> AsyncIterator[Any]:
        async with super().view(file, byte_range=byte_range) as served:
            if file.filename == "slow.png":
                await asyncio.Event().wait()
            yield served


@pytest.fixture
def engines() -> dict[EngineId, Dripping]:
    files = {"output//a.png": png((40, 20)), "output//slow.png": b"x"}
    return {each: Dripping(files=dict(files)) for each in (GOOD, BAD)}


@pytest.fixture
def files(engines: dict[EngineId, Dripping]) -> OutputFiles:
    settings = Settings(engine_urls=("good=http://127.0.0.1:1", "bad=http://127.0.0.1:2"))
    return OutputFiles(settings, engines=engines)


OTHERS = {
    "another client": (KIND, replace(PICTURE, engine=BAD)),
    "another engine": (MEAN, PICTURE),
    "both": (KIND, PICTURE),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_outputs_that_do_not_come_delay_no_other_preview(
    files: OutputFiles, engines: dict[EngineId, Dripping], other: str
) -> None:
    client, wanted = OTHERS[other]
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        waiting = [group.create_task(files.preview(SLOW, client=MEAN)) for _ in range(MANY)]
        while not engines[BAD].open_now:
            await asyncio.sleep(0)
        for _ in range(3):
            assert (await files.preview(wanted, client=client)).width == 40
        assert engines[BAD].open_now == 1, "one client has half of what is read of an engine"
        for each in waiting:
            each.cancel()


async def test_an_output_that_does_not_come_is_given_up(
    files: OutputFiles, engines: dict[EngineId, Dripping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "FETCH_S", 0.01)
    with pytest.raises(EngineUnreachable, match="did not send output"):
        await files.preview(SLOW, client=MEAN)
    assert engines[BAD].open_now == 0
    monkeypatch.setattr(outputs, "FETCH_S", LIMIT_S)
    assert (await files.preview(replace(PICTURE, engine=BAD), client=MEAN)).width == 40


@pytest.mark.parametrize(
    ("size", "at_once"), [(SMALL_BYTES, SMALL_FETCHES), (SMALL_BYTES + 1, LARGE_FETCHES)]
)
async def test_what_is_held_of_all_engines_together_is_bounded(size: int, at_once: int) -> None:
    """Also from engines that send slowly. One client has half, and others are not kept waiting by it."""
    many = [EngineId(f"e{at}") for at in range(40)]
    engines = {each: Dripping(files={"output//slow.png": b"x"}) for each in many}
    urls = tuple(f"{each}=http://127.0.0.1:1/{each}" for each in many)
    files = OutputFiles(Settings(engine_urls=urls), engines=engines)

    def open_now() -> int:
        return sum(each.open_now for each in engines.values())

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        waiting = []
        for client, held in ((MEAN, at_once // 2), (KIND, at_once // 2 + max(1, at_once // 6))):
            waiting += [
                group.create_task(files.preview(replace(SLOW, engine=each, size=size), client=client))
                for each in many
            ]
            while open_now() < held:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert open_now() <= at_once
        for each in waiting:
            each.cancel()


async def test_an_output_that_is_larger_than_was_said_is_not_held(
    files: OutputFiles, engines: dict[EngineId, Dripping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "SMALL_BYTES", 4)
    engines[GOOD].tells_size = False
    with pytest.raises(LimitExceeded):
        await files.preview(replace(PICTURE, size=3), client=MEAN)
    assert (await files.preview(PICTURE, client=MEAN)).width == 40


@pytest.mark.parametrize(("tells_size", "asked"), [(True, 1), (False, 2)])
async def test_a_picture_of_unknown_size_is_fetched_once_where_the_engine_says_it(
    files: OutputFiles, engines: dict[EngineId, Dripping], tells_size: bool, asked: int
) -> None:
    engines[GOOD].tells_size = tells_size
    assert (await files.preview(PICTURE, client=MEAN)).width == 40
    assert len(engines[GOOD].asked) == asked
    assert engines[GOOD].open_now == 0
