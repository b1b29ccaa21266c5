"""Another process on the same store: `python store_process.py STATE_DIR COMMAND …`, for tests with kill -9.

add N          submit N jobs one after the other, print each id once it is durable
claim ENGINE   wait for a line on stdin, then claim until nothing waits, print each id
half MODE      submit one job, then stop in the middle of writing more; print `inside` there.
               MODE: the journal, wal or truncate
"""

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.transitions import queued
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store, schema
from comfy_mcp.store.codec import job_values
from comfy_mcp.store.sqlite import database
from tests.support.constants import set_constants
from tests.support.jobs import GRAPH, new_prompt_id, queued_event


async def main(state_dir: str, command: str, *arguments: str) -> None:
    if command == "half":
        database.WAL_SAFE_FROM = (0,) if arguments[0] == "wal" else (999,)
    set_constants({"BUSY_S": 30.0})
    store = await Store.open(load_settings(state_dir=Path(state_dir)))
    match command:
        case "add":
            for _ in range(int(arguments[0])):
                job, _position = await store.add_job(queued_event(), GRAPH, max_queued=10_000)
                print(job.id, flush=True)
        case "claim":
            lease = await store.acquire_lease(EngineId(arguments[0]), f"process of {arguments[0]}", 60)
            assert lease is not None
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            while claim := await store.claim_next(lease, prompt_id=new_prompt_id(), now=1):
                print(claim.job.id, flush=True)
        case "half":
            job, _position = await store.add_job(queued_event(), GRAPH, max_queued=10_000)
            print(job.id, flush=True)
            await store._writer.do(_half)
        case _:
            raise SystemExit(f"no such command: {command}")
    await store.close()


def _half(connection: Any) -> None:
    connection.exec_driver_sql("PRAGMA cache_size=1")  # pages go to the file before the commit
    for _ in range(200):
        connection.execute(insert(schema.jobs), job_values(queued(queued_event())))
    print("inside", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
