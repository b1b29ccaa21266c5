"""Resources: recent jobs and outputs by name, templates, reads, and what is not there."""

import base64
import json
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, Resource, TextResourceContents

from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.server.resources import RECENT, resolve, templates
from tests.support.mcp_surface import MODES, open_surface, slow_graph, submit, text_of

UNKNOWN = ("comfy://nothing", "comfy://workflows/", "comfy://workflows/a/b", "file:///etc/passwd", "")

TEXT_GRAPH = {
    "1": {"class_type": "PrimitiveString", "inputs": {"value": "a haiku"}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


async def all_resources(client: Client) -> list[list[Resource]]:
    pages = []
    cursor = None
    while True:
        page = await client.list_resources(cursor=cursor)
        pages.append(page.resources)
        cursor = page.next_cursor
        if cursor is None:
            return pages


@pytest.mark.parametrize("mode", MODES)
async def test_jobs_and_outputs_are_listed_by_name_and_can_be_read(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        workflow_id = await submit(client, slow_graph())
        state = (await client.call_tool("wait_for_workflow", {"workflow_id": workflow_id})).structured_content
        while "size" not in state["outputs"][0]:  # filled in a moment after the end
            state = (
                await client.call_tool("workflow_status", {"workflow_id": workflow_id})
            ).structured_content
        output = state["outputs"][0]
        uri_of_it = f"comfy://outputs/{output['outputId']}"

        (resources,) = await all_resources(client)
        by_uri = {item.uri: item for item in resources}
        assert list(by_uri) == [
            "comfy://workflows", "comfy://queue", "comfy://gpu",
            f"comfy://workflows/{workflow_id}", uri_of_it,
        ]  # fmt: skip
        assert by_uri[uri_of_it].mime_type == "image/png"
        assert by_uri[uri_of_it].size == output["size"]
        assert "completed" in (by_uri[f"comfy://workflows/{workflow_id}"].title or "")

        job = (await client.read_resource(f"comfy://workflows/{workflow_id}")).contents[0]
        assert isinstance(job, TextResourceContents)
        assert job.mime_type == "application/json"
        assert json.loads(job.text) == state

        picture = (await client.read_resource(uri_of_it)).contents[0]
        assert isinstance(picture, BlobResourceContents)
        data = base64.b64decode(picture.blob)
        assert data.startswith(b"\x89PNG")
        assert len(data) == output["size"]

        for uri, key in (
            ("comfy://workflows", "workflows"),
            ("comfy://queue", "counts"),
            ("comfy://gpu", "gpus"),
        ):
            read = (await client.read_resource(uri)).contents[0]
            assert isinstance(read, TextResourceContents)
            assert key in json.loads(read.text)


async def test_the_list_goes_on_by_cursor_and_names_nothing_twice(tmp_path: Path) -> None:
    async with (
        open_surface(tmp_path, engine_url="http://127.0.0.1:9") as surface,
        surface.client(MODES[0]) as client,
    ):
        ids = [await submit(client, slow_graph(seed=seed)) for seed in range(RECENT + 5)]
        pages = await all_resources(client)
    assert [len(page) for page in pages] == [3 + RECENT, 5]
    listed = [item.uri for page in pages for item in page]
    assert listed[3:] == [f"comfy://workflows/{workflow_id}" for workflow_id in reversed(ids)]


async def test_the_list_ends_after_a_bound_of_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_mcp.server.resources.PAGES", 1)
    async with (
        open_surface(tmp_path, engine_url="http://127.0.0.1:9") as surface,
        surface.client(MODES[0]) as client,
    ):
        for seed in range(RECENT + 1):
            await submit(client, slow_graph(seed=seed))
        assert [len(page) for page in await all_resources(client)] == [3 + RECENT]


async def test_a_text_output_is_read_and_seen_as_text(tmp_path: Path) -> None:
    async with open_surface(tmp_path) as surface, surface.client(MODES[0]) as client:
        workflow_id = await submit(client, TEXT_GRAPH)
        state = (await client.call_tool("wait_for_workflow", {"workflow_id": workflow_id})).structured_content
        assert state["status"] == "completed"
        output = next(item for item in state["outputs"] if item["type"] == "text")
        contents = (await client.read_resource(f"comfy://outputs/{output['outputId']}")).contents[0]
        assert isinstance(contents, TextResourceContents)
        assert contents.text == "a haiku"
        assert (contents.mime_type or "").startswith("text/plain")
        view = await client.call_tool("view_output", {"output_id": output["outputId"]})
        assert "a haiku" in text_of(view)
        assert view.structured_content["note"] == "a haiku"


@pytest.mark.parametrize(("mode", "code"), [("2026-07-28", -32602), ("legacy", -32002)])
async def test_what_is_not_there_is_an_error_with_the_era_s_code(
    tmp_path: Path, mode: str, code: int
) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        for uri in ("comfy://nothing", "comfy://workflows/nope", "comfy://outputs/nope"):
            with pytest.raises(MCPError, match=r"not found|No resource") as caught:
                await client.read_resource(uri)
            assert caught.value.error.code == code
            assert caught.value.error.data["uri"] == uri
            assert caught.value.error.data["nextStep"]


@pytest.mark.parametrize(
    "cursor",
    ["", "nonsense", "WzAsbnVsbCxudWxsXQ==", "é", "WyIxIl0=", "WzEsICIlJSUiLCBudWxsXQ==", "W1tb" * 50_000],
)
async def test_a_cursor_of_another_list_is_refused(tmp_path: Path, cursor: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client("legacy") as client:
        with pytest.raises(MCPError, match="invalid_argument") as caught:
            await client.list_resources(cursor=cursor)
        assert caught.value.error.code == -32602


async def test_templates_are_listed(tmp_path: Path) -> None:
    async with open_surface(tmp_path) as surface, surface.client("legacy") as client:
        listed = await client.list_resource_templates()
    assert [item.uri_template for item in listed.resource_templates] == [
        "comfy://workflows/{workflowId}",
        "comfy://workflows/{workflowId}/graph",
        "comfy://outputs/{outputId}",
    ]
    assert [item.mime_type for item in templates()] == ["application/json", "application/json", None]


async def test_the_graph_of_a_workflow_is_a_resource(tmp_path: Path) -> None:
    async with open_surface(tmp_path) as surface, surface.client(MODES[0]) as client:
        workflow_id = await submit(client, TEXT_GRAPH)
        contents = (await client.read_resource(f"comfy://workflows/{workflow_id}/graph")).contents[0]
        assert isinstance(contents, TextResourceContents)
        assert json.loads(contents.text) == {"workflowId": workflow_id, "graph": TEXT_GRAPH}


@pytest.mark.parametrize("uri", UNKNOWN)
def test_only_the_registry_s_uris_resolve(uri: str) -> None:
    with pytest.raises(NotFound) as caught:
        resolve(uri)
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_a_template_s_value_becomes_the_operation_s_argument() -> None:
    target = resolve("comfy://outputs/abc")
    assert (target.operation, target.arguments) == ("read_output", {"outputId": "abc"})
