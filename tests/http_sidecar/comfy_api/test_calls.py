"""A job with thousands of outputs costs an answer, and no more: few files are asked for their sizes."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.driving.sizes import OutputSizes
from comfy_mcp.library import OutputFiles
from http_sidecar.comfy_api import calls
from tests.http_sidecar.comfy_api.conftest import API, HEADERS
from tests.support.graphs import picture
from tests.support.sidecar import Sidecar

OUTPUTS, ASKED = 7, 2


@pytest.fixture
async def job(v2: Sidecar, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of many outputs, whose sizes nobody knows."""

    monkeypatch.setattr(OutputSizes, "want", lambda _sizes, _outputs: None)
    monkeypatch.setattr(calls, "SIZES_ASKED", ASKED)
    graph = picture()
    graph |= {f"save{at}": graph["2"] for at in range(1, OUTPUTS)}
    made = (await v2("POST", f"{API}/jobs", json={"workflow": graph}, headers=HEADERS)).body["id"]
    await v2.ended(made, headers=HEADERS)
    return str(made)


async def sizes_of(v2: Sidecar, job: str) -> list[int]:
    answer = await v2("GET", f"{API}/jobs/{job}", headers=HEADERS)
    return [each["size_bytes"] for each in answer.body["outputs"]]


async def test_an_answer_asks_for_a_few_sizes_and_the_next_ones_know_more(v2: Sidecar, job: str) -> None:
    first = await sizes_of(v2, job)
    assert len(first) == OUTPUTS
    assert sum(size > 0 for size in first) == ASKED
    known = ASKED
    async with asyncio.timeout(20):
        while known < OUTPUTS:
            known, before = sum(size > 0 for size in await sizes_of(v2, job)), known
            assert before <= known <= before + ASKED
    assert len(set(await sizes_of(v2, job))) == 1


async def test_so_does_a_stream(v2: Sidecar, job: str) -> None:
    answer = await v2("GET", f"{API}/jobs/{job}/events", headers=HEADERS)
    assert answer.data.count(b"event: output") == OUTPUTS
    assert answer.data.count(b'"size_bytes": 0') == OUTPUTS - ASKED


@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["no time left", "an engine that does not answer"])
async def test_a_size_that_can_not_be_had_is_none(
    v2: Sidecar, job: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_files: OutputFiles, _output: Output) -> int:
        raise EngineUnreachable("no", next_step="wait")

    monkeypatch.setattr(OutputFiles, "size", refused)
    monkeypatch.setattr(calls, "SIZES_S", seconds)
    assert await sizes_of(v2, job) == [0] * OUTPUTS


async def test_the_same_is_written_beside_the_loop(
    v2: Sidecar, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_time(made: dict[str, Any]) -> dict[str, Any]:
        """Nor sizes: the second answer may know more of them."""
        gone = {"url": "", "url_expires_at": "", "size_bytes": 0}
        outputs = [{**each, **gone} for each in made["outputs"]]
        return {**made, "outputs": outputs}

    here = await v2("GET", f"{API}/jobs/{job}", headers=HEADERS)
    monkeypatch.setattr(calls, "MANY", 0)
    beside = await v2("GET", f"{API}/jobs/{job}", headers=HEADERS)
    assert sum(each["size_bytes"] > 0 for each in beside.body["outputs"]) >= ASKED
    assert without_time(here.body) == without_time(beside.body)
