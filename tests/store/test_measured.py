"""How long callers wait for the store is told, for reads and writes apart."""

import pytest

from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store
from tests.support.jobs import GRAPH, new_job_id, queued_event


async def test_every_call_is_told_once_whatever_comes_of_it(settings: Settings) -> None:
    reads: list[float] = []
    writes: list[float] = []
    store = await Store.open(settings, on_read=reads.append, on_write=writes.append)
    await store.add_job(queued_event(), GRAPH, max_queued=1)
    assert (len(reads), len(writes)) == (0, 1)
    with pytest.raises(LimitExceeded):
        await store.add_job(queued_event(), GRAPH, max_queued=1)
    await store.get_job(new_job_id())
    assert (len(reads), len(writes)) == (1, 2)
    assert min(reads + writes) > 0
    await store.close()
