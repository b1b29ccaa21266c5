"""Links to outputs that need no key: what a result over HTTP says, and what the door then does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from tests.support.graphs import picture
from tests.support.sidecar import Sidecar, open_sidecar

KEY = {"X-API-Key": "k" * 32}
BASE = "https://host.example/bridge"


@pytest.fixture
async def v1(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path, http_key=KEY["X-API-Key"], public_url=f"{BASE}/") as v1:
        yield v1


async def link_of(v1: Sidecar) -> tuple[str, str]:
    """(its id, the link without the host)."""
    job = await v1.submit(picture(), headers=KEY)
    output = (await v1.ended(job, headers=KEY))["outputs"][0]
    assert output["url"] == f"/v1/comfyui/output/{output['outputId']}"
    assert output["link"].startswith(f"{BASE}{output['url']}?")
    return output["outputId"], output["link"].removeprefix(BASE)


async def test_a_link_needs_no_key(v1: Sidecar) -> None:
    _, link = await link_of(v1)
    answer = await v1("GET", link)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    assert (await v1("HEAD", link)).status == 200
    part = await v1("GET", link, headers={"Range": "bytes=0-3"})
    assert (part.status, part.data) == (206, answer.data[:4])


async def test_a_link_opens_nothing_else(v1: Sidecar) -> None:
    output_id, link = await link_of(v1)
    other, _ = await link_of(v1)
    url = URL(f"{v1.url}{link}", encoded=True)
    query = url.query_string
    closed = [
        link.replace(output_id, other),
        f"/v1/comfyui/output/{output_id}/preview?{query}",
        f"/v1/comfyui/outputs?{query}",
        f"/v1/comfyui/workflows?{query}",
        f"/v1/comfyui/output/{output_id}",
        f"/v1/comfyui/output/{output_id[:8]}?{query}",
        str(url.update_query(expires=str(int(url.query["expires"]) + 1)).relative()),
        str(url.update_query(signature="x").relative()),
        str(url.without_query_params("signature").relative()),
    ]
    answers = {path: await v1("GET", path) for path in closed}
    assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(closed, 401)
    by_link = {path for path, answer in answers.items() if "This link has expired" in answer.body["message"]}
    assert by_link == {path for path in closed if "expires=" in path}
    assert (await v1("DELETE", link)).status in {401, 405}
    wrong = {"X-API-Key": "wrong"}
    refused = await v1("GET", link, headers=wrong)  # a key that is shown counts
    assert (refused.status, "API key" in refused.body["message"]) == (401, True)


async def test_without_the_setting_there_are_no_links(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        output = (await v1.ended(await v1.submit(picture())))["outputs"][0]
        assert "link" not in output
        assert "path" not in output
