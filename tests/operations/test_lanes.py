"""A submit that asks for a service: who may, what is checked, and what would be missing there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.library.input_files import InputFiles
from tests.support import graphs
from tests.support.sidecar import WORKFLOW, Answer, Sidecar, open_sidecar

LANE = "comfy-api-v2"


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """Nothing answers where the service should be: what is submitted waits."""
    async with open_sidecar(tmp_path, comfy_api_url="http://127.0.0.1:9", comfy_api_key="a-key") as sidecar:
        yield sidecar


async def submit(sidecar: Sidecar, graph: dict[str, Any], **more: Any) -> Answer:
    return await sidecar("POST", WORKFLOW, json={"workflow": graph, "gpu": LANE, **more})


async def test_a_graph_that_is_wrong_in_itself_is_refused(sidecar: Sidecar) -> None:
    graph = graphs.picture()
    graph["2"]["inputs"]["images"] = ["77", 0]
    answer = await submit(sidecar, graph)
    assert (answer.status, answer.body["code"]) == (400, "graph_invalid")


async def test_a_graph_that_nobody_can_run_is_refused(sidecar: Sidecar) -> None:
    loop = {
        each: {"class_type": "NobodyHasThis", "inputs": {"x": [other, 0]}} for each, other in ("12", "21")
    }
    answer = await submit(sidecar, loop)
    assert (answer.status, answer.body["code"]) == (400, "graph_invalid")


async def test_a_graph_that_engines_here_can_run_has_no_warning_of_the_check(sidecar: Sidecar) -> None:
    answer = await submit(sidecar, graphs.picture())
    assert answer.status == 202
    assert "not checked" not in " ".join(answer.body["warnings"])


async def test_each_of_several_is_checked_for_the_lane(sidecar: Sidecar) -> None:
    graph = graphs.picture() | {"3": {"class_type": "NobodyHasThis", "inputs": {}}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    answer = await submit(sidecar, graph, matrix={"1.color": [1, 2]})
    assert answer.status == 202
    listed = await sidecar("GET", "/v1/comfyui/workflows")
    assert [each["status"] for each in listed.body["workflows"]] == ["queued", "queued"]


async def test_a_file_that_can_not_be_copied_goes_nowhere(
    sidecar: Sidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await sidecar.ended(await sidecar.submit(graphs.picture()))
    picture = await sidecar("GET", made["outputs"][0]["url"])
    (tmp_path / "engine" / "input" / "mine.png").write_bytes(picture.data)
    graph = graphs.picture() | {"1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}}}
    assert (await submit(sidecar, graph)).status == 202

    async def refusing(*_given: object) -> str:
        raise BridgeError("The disk is full.", next_step="")

    monkeypatch.setattr(InputFiles, "keep_served", refusing)
    answer = await submit(sidecar, graph)
    assert (answer.status, answer.body["code"]) == (400, "graph_invalid")
    assert "mine.png" in answer.body["message"]
    assert (await sidecar("POST", WORKFLOW, json={"workflow": graph})).status == 202


async def test_it_waits_and_says_for_what(sidecar: Sidecar) -> None:
    while sidecar.services.engines.lanes.trouble(LANE) is None:
        await sidecar("GET", "/health")
    answer = await submit(sidecar, graphs.picture())
    assert "The workflow waits until then" in " ".join(answer.body["warnings"])
    state = await sidecar("GET", f"{WORKFLOW}/{answer.body['workflowId']}")
    assert state.body["waitingFor"]["reason"] == "engine"
    assert LANE in state.body["waitingFor"]["message"]
