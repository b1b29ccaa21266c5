"""Tool results: v1 JSON, one line, links and images, within the clients' limits."""

import base64

from mcp_types import ImageContent, ResourceLink

from comfy_mcp.operations.brief import CONTENT_LIMIT, NOTE_LIMIT
from comfy_mcp.operations.shapes import OutputItem, OutputKindName, OutputsResult, ViewResult, WorkflowResult
from comfy_mcp.operations.views import OUTPUTS_SHOWN
from comfy_mcp.server.results import LINKS, tool_result
from tests.support.mcp_surface import text_of


def output(number: int = 0, *, kind: OutputKindName = "image", content: str | None = None) -> OutputItem:
    return OutputItem(
        output_id=f"o{number}",
        filename="" if content else f"x_{number}.png",
        workflow_id="w",
        type=kind,
        size=10,
        created_at=1,
        url=f"/v1/comfyui/output/o{number}",
        uri=f"comfy://outputs/o{number}",
        media_type="text/plain" if content else "image/png",
        content=content,
    )


def completed(outputs: list[OutputItem], *, error: str | None = None) -> WorkflowResult:
    return WorkflowResult(
        workflow_id="w", status="completed", queue_position=None, progress=100, current_node=None,
        start_time=1, completion_time=2, outputs=outputs, error=error, failure=None, priority="normal",
        client="c", engine="e", attempt=1, created_time=0,
    )  # fmt: skip


def test_the_structured_part_is_the_v1_json_without_nulls_and_defaults() -> None:
    result = tool_result(completed([output()]))
    assert result.structured_content["workflowId"] == "w"
    assert None not in result.structured_content.values()
    assert not {"warnings", "queuePosition", "cancelRequested"} & set(result.structured_content)
    assert result.structured_content["outputs"] == [
        {"outputId": "o0", "filename": "x_0.png", "type": "image", "size": 10}
    ]
    assert "\n" not in text_of(result)


def test_outputs_of_a_finished_workflow_are_linked_up_to_a_bound() -> None:
    result = tool_result(completed([output(number) for number in range(LINKS + 3)]))
    links = [block for block in result.content if isinstance(block, ResourceLink)]
    assert [link.uri for link in links] == [f"comfy://outputs/o{number}" for number in range(LINKS)]
    assert links[0].mime_type == "image/png"
    assert links[0].size == 10


def test_a_workflow_with_very_many_outputs_never_says_fewer() -> None:
    count = OUTPUTS_SHOWN + 80
    result = tool_result(
        completed([output(number) for number in range(count)]).model_copy(update={"output_count": count})
    )
    assert len(result.structured_content["outputs"]) == OUTPUTS_SHOWN
    assert result.structured_content["outputCount"] == count
    assert f"completed with {count} output(s)" in text_of(result)
    assert f"and {count - 5} more" in text_of(result)


def test_long_text_outputs_share_one_budget() -> None:
    items = [output(number, kind="text", content="x" * 100_000) for number in range(200)]
    result = tool_result(OutputsResult(outputs=items).with_fields("full"))
    shown = [item["content"] for item in result.structured_content["outputs"]]
    assert sum(map(len, shown)) <= CONTENT_LIMIT
    assert all(text.endswith("…") for text in shown)


def test_a_page_of_two_hundred_outputs_is_below_the_clients_limits() -> None:
    items = [output(number, kind="text", content="x" * 100_000) for number in range(200)]
    assert len(tool_result(OutputsResult(outputs=items)).model_dump_json()) < 100_000


def test_a_long_error_is_cut() -> None:
    result = tool_result(completed([], error="e" * 1_000_000))
    assert len(result.structured_content["error"]) < 10_000


def test_a_preview_is_an_image_beside_the_link_and_not_in_the_json() -> None:
    view = ViewResult(output=output(), width=8, height=4, preview=b"jpeg", preview_media_type="image/jpeg")
    text, image, link = (result := tool_result(view)).content
    assert text_of(result) == "preview 8x4 of image x_0.png (o0, 10 bytes)."
    assert image == ImageContent(data=base64.b64encode(b"jpeg").decode(), mime_type="image/jpeg")
    assert isinstance(link, ResourceLink)
    assert "preview" not in result.structured_content
    assert text.type == "text"


def test_the_largest_preview_of_the_settings_is_a_result_below_one_megabyte() -> None:
    view = ViewResult(
        output=output(), width=768, height=768, preview=b"x" * 700_000, preview_media_type="image/jpeg"
    )
    assert len(tool_result(view).model_dump_json()) < 1_000_000


def test_a_text_output_is_shown_as_text_and_bounded() -> None:
    view = ViewResult(output=output(kind="text", content="t" * 50_000), note="t" * 50_000)
    result = tool_result(view)
    assert len(text_of(result)) <= NOTE_LIMIT + 4_000
    assert isinstance(result.content[1], ResourceLink)
    assert len(result.structured_content["note"]) == NOTE_LIMIT
