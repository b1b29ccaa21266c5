"""Who is warned of short memory, and who is held for it: over a real runtime and an engine with a GPU."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.gpu import GpuSample
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.needs import needs_of
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.gpu import monitor
from comfy_mcp.operations import memory
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.operations.conftest import CALLER, Bench
from tests.support.graphs import picture, slow
from tests.support.invariants import check_store
from tests.support.vram_engine import Vram


@pytest.fixture
def vram(monkeypatch: pytest.MonkeyPatch) -> Vram:
    vram = Vram()
    vram.play(monkeypatch)
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.05)
    return vram


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    config = EngineConfig(base_directory=folder / "engine")
    async with EmbeddedEngine(config) as engine:
        loaded = load_settings(engine_urls=engine.url, state_dir=folder / "state", **settings)
        async with open_runtime(loaded) as services:
            yield Bench(services, CALLER)
            await check_store(services.store)


async def show(call: Bench, vram: Vram, **gib: int) -> None:
    """From now on the engine says so, and the monitor has heard it."""
    for name, value in gib.items():
        setattr(vram, name, value)
    asked = vram.asked
    async with asyncio.timeout(20):
        while vram.asked == asked:
            await call.services.gpu.sample()
            await call.services.store.last_seq()


async def teach(call: Bench, vram: Vram, gib: int) -> None:
    """A run of `slow` that was seen to hold so much."""
    vram.held = gib
    submitted = await call("submit_workflow", workflow=slow(steps=60))
    assert submitted.warnings == [], "nothing is known yet"
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert state.status == "completed"
    need = await call.services.store.vram_need(needs_of(parse_graph(slow())).shape)
    assert need == gib * 2**30
    await show(call, vram, held=1)


async def test_a_submit_is_warned_when_no_engine_has_what_such_workflows_needed(
    tmp_path: Path, vram: Vram
) -> None:
    async with opened(tmp_path) as call:
        await teach(call, vram, 20)
        await show(call, vram, others=14)
        warned = await call("submit_workflow", workflow=slow(steps=1))
        engine = call.services.settings.engines[0].id
        said = f"Similar workflows needed 20.0 GiB of VRAM; {engine} has 10.0 GiB of 24.0 GiB."
        assert warned.warnings == [f"{said} It may be slow or run out of memory."]
        assert (await call("submit_workflow", workflow=picture())).warnings == []
        state = await call("wait_for_workflow", workflow_id=warned.workflow_id)
        assert (state.status, state.warnings) == ("completed", warned.warnings)


async def test_a_held_workflow_says_why_and_starts_when_there_is_room(tmp_path: Path, vram: Vram) -> None:
    async with opened(tmp_path, vram_hold=True) as call:
        await teach(call, vram, 20)
        await show(call, vram, others=14)
        held = await call("submit_workflow", workflow=slow(steps=1))
        assert held.warnings[0].endswith("It waits until an engine has enough.")
        after = await call("submit_workflow", workflow=picture())
        done = await call("wait_for_workflow", workflow_id=after.workflow_id)
        assert done.status == "completed", "it went past the held one"
        state = await call("workflow_status", workflow_id=held.workflow_id)
        assert state.status == "queued"
        assert (state.waiting_for.reason, state.waiting_for.need_bytes) == ("vram", 20 * 2**30)
        assert "position 1, held: Similar workflows needed 20.0 GiB of VRAM; " in state.text()
        (listed,) = (await call("queue")).queued
        assert listed.waiting_for == state.waiting_for
        overview = await call("system_status")
        assert "1 queued workflow(s) may need up to 20.0 GiB" in overview.text()
        vram.others = 0
        state = await call("wait_for_workflow", workflow_id=held.workflow_id)
        assert (state.status, state.waiting_for) == ("completed", None)
        assert not any("GiB" in problem for problem in (await call("system_status")).problems)


async def test_a_held_workflow_ends_with_its_deadline_and_can_be_cancelled_and_retried(
    tmp_path: Path, vram: Vram
) -> None:
    async with opened(tmp_path, vram_hold=True) as call:
        await teach(call, vram, 20)
        await show(call, vram, others=14)
        late = await call("submit_workflow", workflow=slow(steps=1), queue_timeout_s=0.5)
        state = await call("wait_for_workflow", workflow_id=late.workflow_id)
        assert (state.status, state.failure.kind) == ("failed", "timeout")
        again = await call("retry_workflow", workflow_id=late.workflow_id)
        assert again.warnings[0].startswith("Similar workflows needed 20.0 GiB")
        assert (await call("cancel_workflow", workflow_id=again.workflow_id)).status == "cancelled"


async def test_what_no_engine_has_at_all_is_warned_of_and_runs(tmp_path: Path, vram: Vram) -> None:
    async with opened(tmp_path, vram_hold=True) as call:
        await teach(call, vram, 20)
        await show(call, vram, total=8)
        big = await call("submit_workflow", workflow=slow(steps=1))
        assert big.warnings[0].endswith("It may be slow or run out of memory.")
        assert (await call("wait_for_workflow", workflow_id=big.workflow_id)).status == "completed"


@pytest.mark.parametrize(
    "lie", [{"torch_vram_total": None}, {"vram_total": "24"}, {"torch_vram_free": -1}, {"type": "cpu"}]
)
async def test_an_engine_whose_word_is_no_use_holds_nothing(
    tmp_path: Path, vram: Vram, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    async with opened(tmp_path, vram_hold=True) as call:
        await teach(call, vram, 20)
        await show(call, vram, others=14)
        real = vram.stats

        def lying() -> dict[str, Any]:
            said = real()
            said["devices"][0] |= lie
            return said

    monkeypatch.setattr(vram, "stats", lying)
    async with opened(tmp_path, vram_hold=True) as call:
        big = await call("submit_workflow", workflow=slow(steps=1))
        assert big.warnings == []
        assert (await call("wait_for_workflow", workflow_id=big.workflow_id)).status == "completed"


async def test_a_submit_does_not_wait_for_gpus_that_do_not_answer(
    tmp_path: Path, vram: Vram, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> GpuSample:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async with opened(tmp_path) as call:
        await teach(call, vram, 20)
        monkeypatch.setattr(memory, "ANSWER_S", 0.01)
        monkeypatch.setattr(call.services.gpu, "sample", nothing)
        assert (await call("submit_workflow", workflow=slow(steps=1))).warnings == []
