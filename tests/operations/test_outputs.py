"""Outputs for surfaces that stream them: what tests/http_sidecar/rest/test_output_bytes.py does not meet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.operations.outputs import FOUND, OutputContent, Outputs
from tests.operations.conftest import Bench
from tests.support import graphs
from tests.support.jobs import output_of_job
from tests.support.mcp_surface import background


class Writes:
    """A store that refuses the first hash."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.enough = asyncio.Event()

    async def update_output(self, output_id: str, *, size: int, sha256: str) -> None:
        self.kept.append(sha256)
        if len(self.kept) == 1:
            raise StoreFault("It is locked.", next_step="Wait.")
        self.enough.set()


async def finished(call: Bench) -> Any:
    submitted = await call("submit_workflow", workflow=graphs.picture())
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    (item,) = await call.sized(submitted.workflow_id)
    return item


async def test_a_hash_is_kept_beside_the_answers_and_a_store_that_fails_loses_one(call: Bench) -> None:
    item, store = await finished(call), Writes()
    typed: Any = store
    reading = Outputs(call.services)
    output = await reading.find(item.output_id, call.caller)
    data = (await reading.read(output, limit=2**20)).data
    outputs = Outputs(replace(call.services, store=typed))
    hashes = [await outputs.hash_of(output), outputs.hash_of_data(output, data)]
    async with outputs.open(output) as content:
        assert b"".join([chunk async for chunk in outputs.checked(output, content, None)]) == data
    async with background(outputs.run()), asyncio.timeout(20):
        await store.enough.wait()
    assert hashes == [hashes[0]] * 2
    assert set(store.kept) == {hashes[0]}


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
