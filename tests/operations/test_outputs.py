"""Outputs for surfaces that stream them: what tests/http_sidecar/rest/test_output_bytes.py does not meet."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.catalog import Output, OutputFound
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.library import OutputFiles
from comfy_mcp.operations.outputs import FOUND, OutputContent, Outputs
from tests.operations.conftest import Bench
from tests.support import graphs
from tests.support.jobs import output_of_job
from tests.support.mcp_surface import background


class Writes:
    """A store that refuses the first write."""

    def __init__(self) -> None:
        self.kept: list[Sequence[OutputFound]] = []
        self.refused, self.enough = asyncio.Event(), asyncio.Event()

    async def update_outputs(self, found: Sequence[OutputFound]) -> None:
        if not self.refused.is_set():
            self.refused.set()
            raise StoreFault("It is locked.", next_step="Wait.")
        self.kept.append(found)
        self.enough.set()


async def finished(call: Bench) -> Any:
    submitted = await call("submit_workflow", workflow=graphs.picture())
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    (item,) = await call.sized(submitted.workflow_id)
    return item


async def test_hashes_are_written_together_beside_the_answers_and_a_store_that_fails_loses_some(
    call: Bench,
) -> None:
    item, store = await finished(call), Writes()
    typed: Any = store
    reading = Outputs(call.services)
    output = await reading.find(item.output_id, call.caller)
    small = await reading.read_small(output, limit=2**20)
    assert small is not None
    outputs = Outputs(replace(call.services, store=typed))
    sha256 = await outputs.hash_of(output)
    async with background(outputs.run()), asyncio.timeout(20):
        await store.refused.wait()
    assert outputs.hash_of_data(output, small.data) == sha256
    async with outputs.open(output) as content:
        assert b"".join([chunk async for chunk in outputs.checked(output, content, None)]) == small.data
    async with background(outputs.run()), asyncio.timeout(20):
        await store.enough.wait()
    assert store.kept == [[OutputFound(id=output.id, size=len(small.data), sha256=sha256)] * 2]


async def test_only_a_small_output_is_read_into_memory(call: Bench) -> None:
    item = await finished(call)
    outputs = Outputs(call.services)
    output = await outputs.find(item.output_id, call.caller)
    assert output.size is not None
    for known in (output, replace(output, size=None)):
        assert await outputs.read_small(known, limit=output.size - 1) is None
        assert await outputs.read_small(known, limit=output.size) is not None


async def test_a_size_that_was_not_known_is_written_down(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, store = await finished(call), Writes()
    typed: Any = store
    store.refused.set()
    outputs = Outputs(replace(call.services, store=typed))
    output = await Outputs(call.services).find(item.output_id, call.caller)
    assert await outputs.size(output) == output.size
    assert await outputs.size(replace(output, size=None)) == output.size

    async def none(_files: OutputFiles, _output: Output) -> None:
        return None

    monkeypatch.setattr(OutputFiles, "size", none)
    assert await outputs.size(replace(output, size=None)) is None
    async with background(outputs.run()), asyncio.timeout(20):
        await store.enough.wait()
    assert store.kept == [[OutputFound(id=output.id, size=output.size or 0)]]


async def test_hashes_that_find_no_room_are_dropped() -> None:
    services: Any = SimpleNamespace()
    outputs = Outputs(services)
    job: Any = SimpleNamespace(id="j", attempt=1, engine=None)
    output = output_of_job(job)
    hashes = {outputs.hash_of_data(output, b"x") for _ in range(FOUND + 1)}
    assert len(hashes) == 1


class KnownFile:
    """A file in the engine's folder, and the hashes that were noted of it."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def was_hashed_as(self, sha256: str | None) -> bool:
        return False

    async def note(self, sha256: str) -> None:
        self.noted.append(sha256)


class EmptyFile:
    """Opens every output as an empty file on disk."""

    def __init__(self) -> None:
        self.file = KnownFile()

    @asynccontextmanager
    async def open(self, _output: Output, *, part: object) -> AsyncIterator[OutputContent]:
        file: Any = self.file
        yield OutputContent(size=0, media_type="text/plain", chunks=nothing(), file=file)


async def nothing() -> AsyncIterator[bytes]:
    for chunk in list[bytes]():
        yield chunk


async def test_a_file_is_told_its_hash_though_it_is_empty() -> None:
    files = EmptyFile()
    services: Any = SimpleNamespace(outputs=files)
    job: Any = SimpleNamespace(id="j", attempt=1, engine=None)
    outputs, output = Outputs(services), output_of_job(job)
    sha256 = await outputs.hash_of(output)
    async with outputs.open(output) as content:
        assert [chunk async for chunk in outputs.checked(output, content, sha256)] == []
    assert files.file.noted == [sha256] * 2
