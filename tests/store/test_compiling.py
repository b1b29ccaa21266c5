"""The SQL in the package is that of the statements, and a bridge that runs needs no SQLAlchemy."""

import subprocess
import sys
from pathlib import Path

import pytest

from comfy_mcp.store import compiling

AGAIN = "Run `make statements`: a statement or a table has changed."

LIFE = """
import asyncio, sys
from pathlib import Path
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from comfy_mcp.store import JobQuery, OutputQuery
from tests.support.jobs import GRAPH, completed, new_prompt_id, output_of_job, queued_event, started

async def main() -> None:
    settings = load_settings(engine_urls=("http://127.0.0.1:9",), state_dir=Path(sys.argv[1]))
    async with open_runtime(settings, drive=False) as services:
        store = services.store
        lease = await store.acquire_lease(EngineId("engine"), "test", 60)
        job, _ = await store.add_job(queued_event(client="alice"), GRAPH, max_queued=9)
        claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=2)
        job = await store.record(lease, job.id, [started(claim.job)])
        await store.record(lease, job.id, [completed(job, output_count=1)], outputs=[output_of_job(job)])
        await store.list_views(JobQuery(client="alice"))
        await store.list_outputs(OutputQuery(job_id=job.id))
        await store.prune(now=10**15, retention_days=1, retention_jobs=1)
        await store.release_lease(lease)
    print(sorted(name for name in sys.modules if name.partition(".")[0] in {"sqlalchemy", "alembic"}))

asyncio.run(main())
"""


@pytest.mark.parametrize("dialect", sorted(compiling.FILES))
def test_the_package_has_the_sql_of_todays_statements(dialect: str) -> None:
    assert compiling.FILES[dialect].read_text(encoding="utf-8") == compiling.written(dialect), AGAIN


def test_every_statement_of_the_store_is_in_it() -> None:
    assert len(list(compiling.statements())) >= 90


def test_from_an_empty_store_to_the_end_of_a_job_nothing_imports_sqlalchemy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIFE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
