"""Comfy's own SDKs run a workflow here as they do on Comfy Cloud: Python, sync and async, and TypeScript."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from comfy_sdk import AsyncComfy, Comfy
from comfy_sdk.events import OutputReady, Progress, StatusChange
from comfy_sdk.exceptions import InvalidWorkflow, JobFailed, MissingAsset, NotFound, Unauthorized
from comfy_sdk.outputs import AsyncOutput

from tests.http_sidecar.comfy_api.conftest import KEY
from tests.support.chaos_proxy import ChaosProxy
from tests.support.comfy_sdks import png, run_typescript, showing
from tests.support.graphs import failing, picture, slow
from tests.support.sidecar import Sidecar


async def test_the_sync_sdk_uploads_runs_and_downloads(v2: Sidecar, comfy: Comfy) -> None:
    def script() -> Any:
        asset = comfy.assets.from_bytes(png(), filename="red.png")
        job = comfy.run(comfy.workflows.from_json(showing(asset)), timeout=30)
        (output,) = job.get_outputs("2")
        return asset, job, output, output.to_bytes()

    asset, job, output, data = await asyncio.to_thread(script)
    assert (job.status, output.type, output.name, output.job_id) == (
        "succeeded",
        "image",
        "shown_00001_.png",
        job.id,
    )
    assert output.size_bytes == len(data)
    assert data.startswith(b"\x89PNG")
    assert asset.created_new
    state = await v2("GET", f"/v1/comfyui/workflow/{job.id}", headers={"X-API-Key": KEY})
    assert state.body["status"] == "completed"  # the same job on every surface
    listed = await asyncio.to_thread(lambda: list(comfy.list_jobs()))
    assert [(each.id, each.status) for each in listed] == [(job.id, "succeeded")]
    shown = await asyncio.to_thread(lambda: comfy.jobs.get(job.id).get_workflow())
    assert (shown.format, shown.graph["2"]) == ("api", showing(asset)["2"])


async def test_the_async_sdk_follows_a_job_to_its_end(client: AsyncComfy) -> None:
    job = await client.submit(client.workflows.from_json(slow(steps=5)))
    events = [event async for event in job.events()]
    statuses = [event.status for event in events if isinstance(event, StatusChange)]
    assert statuses[-1] == "succeeded"
    assert "running" in statuses
    values = [event.value for event in events if isinstance(event, Progress)]
    assert values == sorted(values)
    assert {event.nodes_total for event in events if isinstance(event, Progress)} == {2}
    (ready,) = [event.output for event in events if isinstance(event, OutputReady)]
    assert isinstance(ready, AsyncOutput)
    assert (await ready.to_bytes(range=(1, 3))) == b"PNG"
    assert (await job.result()).outputs[0].id == ready.id
    assert [event async for event in job.events()][-1] == StatusChange(status="succeeded")


async def test_a_stream_that_breaks_is_taken_up_again_and_a_lost_answer_is_no_second_job(
    v2: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ChaosProxy(int(v2.url.rpartition(":")[2]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("COMFY_BASE_URL", f"http://127.0.0.1:{port}")
        async with AsyncComfy(api_key=KEY) as client:
            graph = client.workflows.from_json(slow(steps=20))
            job = await client.submit(graph, idempotency_key="once")
            again = await client.submit(graph, idempotency_key="once")
            assert again.id == job.id
            cut, last = False, ""
            async for event in job.events():
                if isinstance(event, Progress) and not cut:
                    cut = True
                    proxy.cut()
                last = event.status if isinstance(event, StatusChange) else last
            assert (cut, last) == (True, "succeeded")
            assert len([each async for each in client.list_jobs()]) == 1
            proxy.cut()


async def test_a_job_is_cancelled_here_and_seen_everywhere(v2: Sidecar, client: AsyncComfy) -> None:
    running = await client.submit(client.workflows.from_json(slow()))
    await v2.until_running(running.id, headers={"X-API-Key": KEY})
    await running.cancel()
    assert (await running.wait(30)).status == "canceled"
    assert (await running.cancel()).status == "canceled"
    with pytest.raises(JobFailed):
        await running.result()
    ended = await client.run(client.workflows.from_json(picture()))
    assert (await ended.cancel()).status == "succeeded"  # an end stays what it is
    theirs = await v2.submit(slow(), headers={"X-API-Key": KEY})
    job = await client.jobs.get(theirs)
    await v2("DELETE", f"/v1/comfyui/workflow/{theirs}", headers={"X-API-Key": KEY})
    assert (await job.wait(30)).status == "canceled"


async def test_errors_are_those_that_the_sdk_knows(
    v2: Sidecar, client: AsyncComfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidWorkflow) as wrong:
        await client.submit(client.workflows.from_json({"7": {"class_type": "Nope", "inputs": {}}}))
    assert wrong.value.details is not None
    assert list(wrong.value.details["node_errors"]) == ["7"]
    with pytest.raises(MissingAsset):
        await client.submit(
            client.workflows.from_json(showing({"__type": "core/ASSET", "info": {"id": "nobody's"}}))
        )
    with pytest.raises(NotFound):
        await client.jobs.get("nothing")
    with pytest.raises(JobFailed) as failed:
        await client.run(client.workflows.from_json(failing("no luck")))
    assert failed.value.error is not None
    assert failed.value.error.node_id == "3"
    assert "no luck" in failed.value.error.message
    async with AsyncComfy(api_key="wrong") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.jobs.get("nothing")


async def test_the_typescript_sdk_does_the_same(v2: Sidecar, tmp_path: Path) -> None:
    await run_typescript(tmp_path / "script", v2.url, KEY, slow=slow())
