"""Completions of names and ids."""

from pathlib import Path

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from tests.support.mcp_surface import MODES, open_surface, slow_graph

JOB = ResourceTemplateReference(uri="comfy://workflows/{workflowId}")
OUTPUT = ResourceTemplateReference(uri="comfy://outputs/{outputId}")
HANG = PromptReference(name="why-does-it-hang")
IMPROVE = PromptReference(name="improve-this-picture")
MAKE = PromptReference(name="make-a-picture")


async def values(
    client: Client, ref: PromptReference | ResourceTemplateReference, name: str, typed: str
) -> list[str]:
    return (await client.complete(ref, {"name": name, "value": typed})).completion.values


@pytest.mark.parametrize("mode", MODES)
async def test_names_and_ids_are_completed(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        assert await values(client, MAKE, "workflow", "UP") == ["upscale"]
        assert await values(client, MAKE, "workflow", "scale") == ["upscale"]
        assert await values(client, MAKE, "workflow", "nothing") == []
        assert await values(client, MAKE, "picture", "a f") == []
        asked = {"workflow": slow_graph(), "name": "Night fox"}
        job = (await client.call_tool("submit_workflow", asked)).structured_content["workflowId"]
        state = (await client.call_tool("wait_for_workflow", {"workflow_id": job})).structured_content
        output = state["outputs"][0]
        for ref, name, wanted, word in (
            (JOB, "workflowId", job, "fox"),
            (HANG, "workflow_id", job, "fox"),
            (OUTPUT, "outputId", output["outputId"], output["filename"]),
            (IMPROVE, "output_id", output["outputId"], output["filename"]),
        ):
            found = await values(client, ref, name, wanted[:6])
            assert [each for each in found if wanted.startswith(each)] == found != []
            assert await values(client, ref, name, word) == found


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        (JOB, "outputId"),
        (HANG, "mood"),
        (PromptReference(name="nothing"), "workflow_id"),
        (ResourceTemplateReference(uri="comfy://{workflowId}"), "workflowId"),
    ],
    ids=["template", "prompt", "no prompt", "no template"],
)
async def test_what_is_no_argument_is_an_error(
    tmp_path: Path, ref: PromptReference | ResourceTemplateReference, name: str
) -> None:
    async with open_surface(tmp_path) as surface, surface.client("legacy") as client:
        with pytest.raises(MCPError, match=r"No argument|Unknown"):
            await values(client, ref, name, "")
