"""One job as events: signs of life, an end at the end, and no more streams than are allowed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from http_sidecar.bounds import Bounds
from tests.http_sidecar.comfy_api.conftest import API, HEADERS, of
from tests.support.graphs import picture, slow
from tests.support.sidecar import Sidecar, open_sidecar


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


async def test_a_stranger_and_a_job_that_does_not_exist_get_an_answer_and_no_stream(v2: Sidecar) -> None:
    job = await submitted(v2, picture())
    for path, headers in ((f"{job}/events", of("ben")), (f"{API}/jobs/nothing/events", HEADERS)):
        answer = await v2("GET", path, headers=headers)
        assert (answer.status, answer.body["error"]["code"]) == (404, "not_found")


async def test_streams_are_bounded_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, bounds=Bounds(job_streams=1)) as v2:
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
