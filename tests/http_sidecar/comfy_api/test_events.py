"""One job as events: signs of life, an end at the end, and no more streams than are allowed."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from http_sidecar.bounds import Bounds
from tests.http_sidecar.comfy_api.conftest import API, HEADERS, of
from tests.support.graphs import picture, slow
from tests.support.sidecar import Sidecar, open_sidecar

WORKFLOW = "/v1/comfyui/workflow"


async def submitted(v2: Sidecar, graph: dict[str, Any]) -> str:
    answer = await v2("POST", f"{API}/jobs", json={"workflow": graph}, headers=HEADERS)
    return str(answer.body["urls"]["self"])


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in response.content:
        yield line.decode().rstrip("\n")


async def test_a_quiet_job_gives_signs_of_life_until_it_is_cancelled(v2: Sidecar) -> None:
    job = await submitted(v2, slow(step_ms=60_000))
    async with v2.session.get(f"{v2.url}{job}/events", headers=HEADERS) as response:
        assert response.content_type == "text/event-stream"
        seen = lines(response)
        async for line in seen:
            if line == ": alive":
                break
        await v2("POST", f"{job}/cancel", headers=HEADERS)
        rest = [line async for line in seen]
    assert rest[-3:-1] == ["event: status", 'data: {"status": "canceled", "queue_position": null}']


@pytest.mark.parametrize("by", ["batch", "ids"])
async def test_several_jobs_are_followed_to_the_end_of_the_last(v2: Sidecar, by: str) -> None:
    """A submit to the other API makes a batch; its id, and ids with commas, are those of a job here too."""
    body = {"workflow": slow(step_ms=60_000), "variations": 2}
    made = (await v2("POST", WORKFLOW, json=body, headers=HEADERS)).body
    first, last = made["workflowIds"]
    given = made["workflowId"] if by == "batch" else f"{first},{last}"
    async with (
        asyncio.timeout(30),
        v2.session.get(f"{v2.url}{API}/jobs/{given}/events", headers=HEADERS) as response,
    ):
        seen = lines(response)
        for job in (first, last):
            async for line in seen:
                if line == ": alive":
                    break
            else:
                raise AssertionError("it has ended before its jobs")
            await v2("DELETE", f"{WORKFLOW}/{job}", headers=HEADERS)
        rest = [line async for line in seen]
    assert rest[-3:-1] == ["event: status", 'data: {"status": "canceled", "queue_position": null}']


async def test_what_a_sampler_shows_and_what_the_submit_warned_of_are_events_too(v2: Sidecar) -> None:
    body = {"workflow": slow(step_ms=5), "extra_data": {"api_key_comfy_org": "secret"}}
    job = (await v2("POST", f"{API}/jobs", json=body, headers=HEADERS)).body["urls"]["self"]
    seen: dict[str, Any] = {}
    async with v2.session.get(f"{v2.url}{job}/events", headers=HEADERS) as response:
        kind = ""
        async for line in lines(response):
            kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
            if line.startswith("data: "):
                seen.setdefault(kind, json.loads(line.removeprefix("data: ")))
            if "preview" in seen:
                break
    await v2("POST", f"{job}/cancel", headers=HEADERS)
    assert (seen["log"]["level"], "secret" in seen["log"]["message"]) == ("warning", False)
    assert (seen["preview"]["content_type"], seen["preview"]["node_id"]) == ("image/jpeg", "1")
    assert base64.b64decode(seen["preview"]["data_base64"]).startswith(b"\xff\xd8")


async def test_a_stranger_and_a_job_that_does_not_exist_get_an_answer_and_no_stream(v2: Sidecar) -> None:
    job = await submitted(v2, picture())
    for path, headers in ((f"{job}/events", of("ben")), (f"{API}/jobs/nothing/events", HEADERS)):
        answer = await v2("GET", path, headers=headers)
        assert (answer.status, answer.body["error"]["code"]) == (404, "not_found")


async def test_streams_are_bounded_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, bounds=Bounds(streams=1)) as v2:
        job = await submitted(v2, slow())
        async with v2.session.get(f"{v2.url}{job}/events") as response:
            await response.content.readline()
            refused = await v2("GET", f"{job}/events")
            assert (refused.status, refused.body["error"]["code"]) == (429, "queue_full")
            assert refused.headers["Retry-After"] == "5"
        await v2("POST", f"{job}/cancel")
        async with asyncio.timeout(30):
            while (await v2("GET", f"{job}/events")).status != 200:
                await asyncio.sleep(0)
