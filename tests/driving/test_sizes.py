"""The sizes of outputs, asked for when their clients have had time to read them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.catalog import Output, OutputFile, OutputFound
from comfy_mcp.domain.ids import OutputId
from comfy_mcp.driving import sizes
from comfy_mcp.driving.sizes import OutputSizes
from tests.support.jobs import output_of_job
from tests.support.mcp_surface import background

SIZE = 7


class Kept:
    """A store that knows the size of what was read."""

    def __init__(self) -> None:
        self.read: set[OutputId] = set()
        self.written: list[OutputFound] = []

    async def without_size(self, outputs: Sequence[OutputId]) -> Sequence[OutputId]:
        return [each for each in outputs if each not in self.read]

    async def update_outputs(self, found: Sequence[OutputFound]) -> None:
        self.written += found


def named(name: str) -> Output:
    job: Any = SimpleNamespace(id="j", attempt=1, engine=None)
    output = output_of_job(job)
    return replace(output, id=OutputId(name), size=None, file=replace(output.file, filename=f"{name}.png"))


async def test_an_output_has_the_whole_pause_for_itself_before_the_engine_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def pause(seconds: float) -> None:
        ends = asyncio.Event()
        pauses.put_nowait(ends)
        await ends.wait()

    asked: list[list[str]] = []

    async def ask(files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        asked.append([file.filename for file in files])
        return dict.fromkeys(files, SIZE)

    monkeypatch.setattr(sizes, "asyncio", SimpleNamespace(sleep=pause, Event=asyncio.Event))
    store = Kept()
    typed: Any = store
    wanted = OutputSizes(ask, typed)
    async with background(wanted.run()), asyncio.timeout(20):
        wanted.want([named("early"), named("early-and-read")])
        first = await pauses.get()
        wanted.want([named("late"), named("late-and-read")])
        store.read.add(OutputId("early-and-read"))
        first.set()
        second = await pauses.get()
        assert asked == [["early.png"]]
        store.read.add(OutputId("late-and-read"))
        second.set()
        while len(store.written) < 2:
            await asyncio.sleep(0)
    assert asked == [["early.png"], ["late.png"]]
    assert [(found.id, found.size) for found in store.written] == [("early", SIZE), ("late", SIZE)]
