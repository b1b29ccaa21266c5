from typing import Any

from comfy_mcp.domain.catalog import Output, OutputFound, OutputKind
from comfy_mcp.domain.ids import EngineId, OutputId
from comfy_mcp.store import Lease, OutputQuery, Store
from tests.support.jobs import GRAPH, completed, new_prompt_id, output_of_job, outputs_of, queued_event

ENGINE = EngineId("a")


async def run_job(store: Store, lease: Lease, *outputs: dict[str, Any]) -> list[Output]:
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    made = [output_of_job(claim.job, **fields) for fields in outputs]
    await store.record(lease, claim.job.id, [completed(claim.job, output_count=len(made))], outputs=made)
    return made


async def leased(store: Store) -> Lease:
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    return lease


async def test_outputs_are_listed_newest_first_by_job_kind_and_time(store: Store) -> None:
    lease = await leased(store)
    first, second = await run_job(
        store, lease, {"at": 10, "size": 7}, {"at": 20, "filename": "v.mp4", "kind": OutputKind.VIDEO}
    )
    (third,) = await run_job(store, lease, {"at": 30, "sha256": "ab"})

    async def found(**fields: Any) -> list[Output]:
        return list((await store.list_outputs(OutputQuery(**fields))).items)

    assert await found() == [third, second, first]
    assert await found(job_id=first.job_id) == [second, first]
    assert await found(kinds=[OutputKind.IMAGE]) == [third, first]
    assert await found(created_after=20) == [third, second]
    assert await found(created_before=20, kinds=[OutputKind.VIDEO, OutputKind.AUDIO]) == [second]
    page = await store.list_outputs(OutputQuery(limit=2))
    assert list(page.items) == [third, second]
    rest = await store.list_outputs(OutputQuery(limit=2, cursor=page.next_cursor))
    assert (list(rest.items), rest.next_cursor) == ([first], None)


async def test_one_output_by_id(store: Store) -> None:
    (made,) = await run_job(store, await leased(store), {})
    assert await store.get_output(made.id) == made
    assert await store.get_output(OutputId("none")) is None


async def test_what_becomes_known_later_is_filled_in(store: Store) -> None:
    (made,) = await run_job(store, await leased(store), {})
    forgotten = OutputId("forgotten")
    assert await store.without_size([made.id, forgotten]) == [made.id]
    await store.update_outputs([OutputFound(id=made.id, size=12), OutputFound(id=forgotten, size=1)])
    await store.update_outputs([OutputFound(id=made.id, size=12, sha256="ff")])
    await store.update_outputs([OutputFound(id=made.id, size=12)])
    await store.update_outputs([])
    kept = await store.get_output(made.id)
    assert kept is not None
    assert (kept.size, kept.sha256, kept.file) == (12, "ff", made.file)
    assert await store.without_size([made.id, forgotten]) == []
    assert await store.without_size([]) == []


async def test_outputs_of_a_job_keep_their_order(store: Store) -> None:
    made = await run_job(store, await leased(store), *[{"filename": f"{n}.png"} for n in (3, 1, 2)])
    assert await outputs_of(store, made[0].job_id) == made
