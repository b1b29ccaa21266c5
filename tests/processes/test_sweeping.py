"""Bridges that share a PostgreSQL: one of them sweeps, and the other does when it dies."""

import asyncio
from dataclasses import replace
from pathlib import Path

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.job import Job
from comfy_mcp.driving.housekeeping import SWEEP
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from tests.support import postgres
from tests.support.invariants import check_store
from tests.support.jobs import GRAPH, queued_event
from tests.support.processes import bridge, kill

LIMIT_S = 60


async def sweeps(store: Store, *pids: int) -> int:
    """Which of these processes sweeps, once one does."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            state = await store.lease_of(SWEEP)
            if state is not None and state.live and (pid := int(state.holder.partition("-")[0] or 0)) in pids:
                return pid
            await asyncio.sleep(0.02)


async def overdue(store: Store) -> Job:
    """A job that has waited for too long, at its end."""
    event = replace(queued_event(at=1), queue_timeout_ms=1)
    job, _ = await store.add_job(event, GRAPH, max_queued=10)
    async with asyncio.timeout(LIMIT_S):
        while not job.is_final:
            await asyncio.sleep(0.02)
            job = await store.get_job(job.id) or job
    return job


async def test_one_of_two_bridges_sweeps_and_the_other_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    url = postgres.shared().database()
    env = {
        "COMFYUI_URL": "http://127.0.0.1:9",
        "COMFY_BRIDGE_STORE": url,
        "COMFY_BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "COMFY_BRIDGE_LEASE_TTL_S": "1",
    }
    store = await Store.open(load_settings(state_dir=tmp_path / "state", store=url))
    async with bridge(tmp_path, env) as one, bridge(tmp_path, env) as two:
        first = await sweeps(store, one.pid, two.pid)
        assert (failure := (await overdue(store)).failure) is not None
        assert failure.kind is FailureKind.TIMEOUT
        dead, left = (one, two) if first == one.pid else (two, one)
        kill(dead)
        await dead.wait()
        assert (await overdue(store)).is_final
        assert await sweeps(store, left.pid) == left.pid
    await check_store(store)
    await store.close()
