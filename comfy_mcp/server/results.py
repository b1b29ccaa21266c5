"""An operation's result as a tool result: JSON, one line of text, images and links, all bounded."""

import base64

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from comfy_mcp.operations.brief import NOTE_LIMIT, bounded, brief, cut
from comfy_mcp.operations.shapes import (
    ModelsResult,
    OutputItem,
    OutputsResult,
    PreviewResult,
    Result,
    ViewResult,
    WorkflowResult,
    WorkflowsResult,
)

LINKS = 5
"""Resource links in one result; the structured part names all outputs."""

LINE_LIMIT = 4_000
LIST_LIMIT = 16_000
"""Characters of the line; of one that names a page's entries."""


def tool_result(result: Result, picture: ViewResult | PreviewResult | None = None) -> CallToolResult:
    """Clients show a model the structured part or the line: each has all that matters. `picture` is shown
    beside both."""
    shown = bounded(result)
    content: list[ContentBlock] = [TextContent(text=cut(shown.text_with_repairs(), _limit(shown)))]
    content.extend(_attachments(shown))
    if picture is not None:
        content.extend(each for each in _attachments(picture) if isinstance(each, ImageContent))
    return CallToolResult(content=content, structured_content=brief(result))


def _limit(result: Result) -> int:
    match result:
        case ViewResult():
            return NOTE_LIMIT + LINE_LIMIT
        case WorkflowsResult() | OutputsResult() | ModelsResult():
            return LIST_LIMIT
        case _:
            return LINE_LIMIT


def resource_link(item: OutputItem) -> ResourceLink:
    return ResourceLink(
        uri=item.uri,
        name=item.filename or item.output_id,
        mime_type=item.media_type,
        size=item.size,
        description=item.type,
    )


def _attachments(result: Result) -> list[ContentBlock]:
    match result:
        case ViewResult(preview=bytes() as preview, preview_media_type=str() as media_type, output=item):
            image = ImageContent(data=base64.b64encode(preview).decode("ascii"), mime_type=media_type)
            return [image, resource_link(item)]
        case ViewResult(output=item):
            return [resource_link(item)]
        case PreviewResult(data=data, media_type=media_type):
            return [ImageContent(data=base64.b64encode(data).decode("ascii"), mime_type=media_type)]
        case WorkflowResult(outputs=items):
            return [resource_link(item) for item in items[:LINKS]]
        case _:
            return []
