"""GET /v1/comfyui/outputs, and the URL that it gives for each."""

from typing import Any

import pytest

from tests.contract_v1.shapes import assert_problem, is_ms
from tests.support.graphs import picture
from tests.support.sidecar import Sidecar

OUTPUTS = "/v1/comfyui/outputs"


def batch(number: int, prefix: str) -> dict[str, Any]:
    """One job with `number` pictures."""
    graph = picture(prefix)
    graph["1"]["inputs"]["batch_size"] = number
    return graph


async def test_nothing_made_is_an_empty_list(v1: Sidecar) -> None:
    answer = await v1("GET", OUTPUTS)
    assert (answer.status, answer.body["outputs"]) == (200, [])


async def test_each_output_has_its_members_and_a_url_that_is_served(v1: Sidecar) -> None:
    """In the earlier service the URL pointed at a route that did not exist."""
    job = await v1.submit(picture("v1/made"))
    await v1.ended(job)
    [output] = (await v1("GET", OUTPUTS)).body["outputs"]

    assert set(output) >= {"filename", "workflowId", "type", "size", "createdAt", "url"}
    assert (output["workflowId"], output["type"]) == (job, "image")
    assert output["filename"].startswith("made_")
    assert is_ms(output["createdAt"])
    file = await v1("GET", output["url"])
    assert (file.status, file.headers["Content-Type"]) == (200, "image/png")
    assert file.data.startswith(b"\x89PNG")
    assert output["size"] in {None, len(file.data)}


async def test_outputs_belong_to_the_job_that_made_them_whatever_their_names(v1: Sidecar) -> None:
    """The earlier service looked for the workflow's id in the file's name."""
    jobs = [await v1.submit(picture("v1/same")) for _ in range(3)]
    for job in jobs:
        await v1.ended(job)
    for job in jobs:
        outputs = (await v1("GET", OUTPUTS, params={"workflowId": job})).body["outputs"]
        assert [output["workflowId"] for output in outputs] == [job]


async def test_a_workflow_without_outputs_or_existence_has_none(v1: Sidecar) -> None:
    answer = await v1("GET", f"{OUTPUTS}?workflowId=nope")
    assert (answer.status, answer.body["outputs"]) == (200, [])


async def test_the_limit_counts_after_filtering_and_sorting(v1: Sidecar) -> None:
    """The earlier service cut first, and filtered and sorted what was left."""
    older = await v1.submit(batch(3, "v1/older"))
    await v1.ended(older)
    newer = await v1.submit(batch(3, "v1/newer"))
    await v1.ended(newer)

    both = (await v1("GET", OUTPUTS)).body["outputs"]
    assert [output["workflowId"] for output in both] == [newer] * 3 + [older] * 3
    created = [output["createdAt"] for output in both]
    assert created == sorted(created, reverse=True)
    filtered = (await v1("GET", f"{OUTPUTS}?workflowId={older}&limit=2")).body["outputs"]
    assert [output["workflowId"] for output in filtered] == [older] * 2
    assert filtered == both[3:5]


async def test_without_a_limit_fifty_are_listed(v1: Sidecar) -> None:
    await v1.ended(await v1.submit(batch(60, "v1/many")))
    assert len((await v1("GET", OUTPUTS)).body["outputs"]) == 50
    assert len((await v1("GET", f"{OUTPUTS}?limit=60")).body["outputs"]) == 60


async def test_a_limit_above_what_is_given_at_once_is_no_error(v1: Sidecar) -> None:
    await v1.ended(await v1.submit(picture()))
    answer = await v1("GET", f"{OUTPUTS}?limit=100000")
    assert (answer.status, len(answer.body["outputs"])) == (200, 1)


@pytest.mark.parametrize("limit", ["ten", "1.5", "-1", "0", "1e2", "NaN", "10 OR 1"])
async def test_a_limit_that_is_no_positive_number_is_400(v1: Sidecar, limit: str) -> None:
    answer = await v1("GET", OUTPUTS, params={"limit": limit})
    assert "limit" in assert_problem(answer, 400, "Bad Request")["message"]
