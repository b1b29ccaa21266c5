"""An operation's result as a tool result: v1 JSON, one line of text, images and links, all bounded.

Claude Desktop takes 1 MB a result, Claude Code 25,000 tokens (measured); a list page of 200 stays below.
"""

import base64
from typing import Any

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from comfy_mcp.operations.shapes import (
    OutputItem,
    OutputsResult,
    Result,
    ViewResult,
    WorkflowResult,
    WorkflowsResult,
)

LINKS = 5
"""Resource links in one result; the structured part names all outputs."""

OUTPUTS_SHOWN = 50
"""Outputs of one workflow in its state; list_outputs pages through the rest."""

OUTPUTS_LISTED = 3
"""Outputs of each workflow in a list of them."""

TEXT_LIMIT = 4_000
NOTE_LIMIT = 20_000
CONTENT_LIMIT = 20_000
"""Characters: of the line, of a text output that is viewed, and of all text outputs in one list."""


def tool_result(result: Result, picture: ViewResult | None = None) -> CallToolResult:
    """Structured content is the v1 JSON, with nulls; the text says the same in one line. `picture` is shown
    beside it."""
    bounded = _bounded(result)
    limit = NOTE_LIMIT + TEXT_LIMIT if isinstance(bounded, ViewResult) else TEXT_LIMIT
    content: list[ContentBlock] = [TextContent(text=_cut(bounded.text_with_repairs(), limit))]
    content.extend(_attachments(bounded))
    if picture is not None:
        content.extend(each for each in _attachments(picture) if isinstance(each, ImageContent))
    return CallToolResult(content=content, structured_content=v1_json(bounded))


def v1_json(result: Result) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True)


def resource_link(item: OutputItem) -> ResourceLink:
    return ResourceLink(
        uri=item.uri,
        name=item.filename or item.output_id,
        mime_type=item.media_type,
        size=item.size,
        description=f"{item.type} of workflow {item.workflow_id}",
    )


def _attachments(result: Result) -> list[ContentBlock]:
    match result:
        case ViewResult(preview=bytes() as preview, preview_media_type=str() as media_type, output=item):
            image = ImageContent(data=base64.b64encode(preview).decode("ascii"), mime_type=media_type)
            return [image, resource_link(item)]
        case ViewResult(output=item):
            return [resource_link(item)]
        case WorkflowResult(outputs=items):
            return [resource_link(item) for item in items[:LINKS]]
        case _:
            return []


def _bounded(result: Result) -> Result:
    match result:
        case WorkflowResult(outputs=items):
            more = len(items) - OUTPUTS_SHOWN
            hint = (
                [f'{more} more outputs: call list_outputs(workflow_id="{result.workflow_id}").']
                if more > 0
                else []
            )
            return result.model_copy(
                update={
                    "outputs": _short(items[:OUTPUTS_SHOWN]),
                    "warnings": [_cut(text, TEXT_LIMIT) for text in result.warnings[:20]] + hint,
                    "error": _cut(result.error, TEXT_LIMIT) if result.error is not None else None,
                }
            )
        case WorkflowsResult(workflows=workflows):
            return result.model_copy(
                update={
                    "workflows": [
                        each.model_copy(update={"outputs": _short(each.outputs[:OUTPUTS_LISTED])})
                        for each in workflows
                    ]
                }
            )
        case OutputsResult(outputs=items):
            return result.model_copy(update={"outputs": _short(items)})
        case ViewResult(note=note, output=item):
            note = _cut(note, NOTE_LIMIT) if note is not None else None
            return result.model_copy(update={"note": note, "output": _short([item])[0]})
        case _:
            return result


def _short(items: list[OutputItem]) -> list[OutputItem]:
    """Text outputs share one budget: a list of long texts is not for a model's context."""
    limit = CONTENT_LIMIT // max(1, len(items))
    return [
        item
        if item.content is None or len(item.content) <= limit
        else item.model_copy(update={"content": _cut(item.content, limit)})
        for item in items
    ]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
