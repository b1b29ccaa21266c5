"""Jobs, leases and claims of a store, for tests of the store."""

from typing import Any

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.store import Claim, Lease, Store
from tests.support.jobs import GRAPH, new_prompt_id, queued_event
from tests.support.raw_sql import run

A, B = EngineId("a"), EngineId("b")


async def add(store: Store, **fields: Any) -> Job:
    job, _ = await store.add_job(queued_event(**fields), GRAPH, max_queued=1_000)
    return job


async def lease_on(store: Store, engine: EngineId = A, holder: str = "me") -> Lease:
    lease = await store.acquire_lease(engine, holder, 60)
    assert lease is not None
    return lease


async def claim(store: Store, lease: Lease) -> Claim:
    found = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
    assert found is not None
    return found


async def expire(store: Store, engine: EngineId = A) -> None:
    def age(connection: Any) -> None:
        run(connection, "UPDATE engine_leases SET expires_at = 1 WHERE engine = ?", (engine,))

    await store._writer.do(age)
