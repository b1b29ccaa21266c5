"""A store of version 0.1.0 is opened, brought to today's schema, and its jobs end; none of it is lost."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings, load_settings
from http_sidecar.api_keys import KeyRing
from tests.support.invariants import check_store

OLD = Path(__file__).parent / "data" / "store-0.1.0.sql"
ENGINE = "127.0.0.1:38683"
"""Where ComfyUI was; it is where it was after an upgrade, too."""

DONE = JobId("00dd368f-6fbc-43a3-bd16-49d26501b640")
FAILED = JobId("4622c107-bece-40e9-870a-a8799a836e52")
RUNNING = JobId("df6c77d8-3cec-4806-80c1-69add62bc0b3")
WAITING = JobId("cd7c142e-775f-4bae-a0f0-e0b1089fef30")
URGENT = JobId("1a357f03-28bd-4c86-83bc-b608b6d46c25")


def settings_of(folder: Path, engine_url: str) -> Settings:
    """Over a store of 0.1.0."""
    settings = load_settings(
        engine_urls=engine_url, state_dir=folder / "state", connect_timeout_s=2.0, retention_days=0
    )
    settings.state_dir.mkdir()
    connection = sqlite3.connect(settings.store_path)
    script = OLD.read_text(encoding="utf-8").replace(ENGINE, engine_url.removeprefix("http://"))
    connection.executescript(script)
    connection.close()
    return settings


async def states(call: Any, jobs: tuple[JobId, ...]) -> dict[JobId, str]:
    return {job: (await call("workflow_status", {"workflow_id": job})).status for job in jobs}


async def test_the_jobs_of_0_1_0_end(tmp_path: Path) -> None:
    caller = Caller(client=ClientId("local"), surface="test")
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        settings = settings_of(tmp_path, engine.url)
        async with open_runtime(settings) as services:
            bridge = Bridge(services)

            async def call(operation: str, arguments: dict[str, Any]) -> Any:
                return await bridge.call(operation, arguments, caller=caller)

            assert await states(call, (DONE, FAILED)) == {DONE: "completed", FAILED: "failed"}
            for job in (URGENT, WAITING, RUNNING):
                state = await call("wait_for_workflow", {"workflow_id": job, "timeout_s": 60})
                assert (state.status, len(state.outputs)) == ("completed", 1), state
            urgent, waiting = [await services.store.get_job(job) for job in (URGENT, WAITING)]
            assert urgent is not None
            assert waiting is not None
            assert (urgent.started_at or 0) <= (waiting.started_at or 0)

            (output,) = (await call("list_outputs", {"workflow_id": DONE})).outputs
            assert output.filename == "done_00001_.png"
            failed = await call("workflow_status", {"workflow_id": FAILED})
            assert (failed.failure.kind, failed.failure.node_id) == ("node_error", "3")
            again = await call("retry_workflow", {"workflow_id": FAILED})
            ended = await call("wait_for_workflow", {"workflow_id": again.workflow_id, "timeout_s": 60})
            assert ended.failure.message == failed.failure.message

            identity = await KeyRing(settings, bridge).identify("the-key-of-ann")
            assert identity is not None
            assert (identity.client, {right.value for right in identity.rights}) == (
                "ann",
                {"read", "submit", "cancel", "high"},  # until 0.1.0 everybody could ask for it
            )
            await check_store(services.store)
        async with open_runtime(settings, drive=False) as services:  # there is nothing left to do
            counts = await asyncio.wait_for(services.store.counts(), 60)
            assert counts[JobStatus.QUEUED] + counts[JobStatus.RUNNING] == 0
