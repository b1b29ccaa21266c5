"""MCP Apps: the view that a host shows beside three tools, for clients that declare the extension.

Source: the extension io.modelcontextprotocol/ui, 2026-01-26. The SDK's `Apps` binds Python functions of an
`MCPServer`; the lowlevel server uses its constants, its models and its test of what a client declared.
Other clients see nothing of it: the same tool list, no such resource, no such capability.
"""

from functools import cache
from typing import Any

from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID, ResourceCsp, client_supports_apps
from mcp_types import ReadResourceResult, Resource, TextResourceContents, Tool

from comfy_mcp.screen.document import document

__all__ = ["CAPABILITY", "TOOLS", "VIEW_URI", "client_supports_apps", "read_view", "view", "with_view"]

CAPABILITY: dict[str, dict[str, Any]] = {EXTENSION_ID: {}}
"""`extensions` of the server's capabilities in 2026-07-28; an older handshake has no such member."""

VIEW_URI = "ui://comfy-bridge/view.html"

TOOLS = frozenset({"submit_workflow", "wait_for_workflow", "list_outputs"})
"""Their results are shown. The view itself calls others, which hosts allow for every tool by default."""

_META = {
    "ui": {
        # Nothing from anywhere: everything that the view shows comes through the host.
        "csp": ResourceCsp(connect_domains=[], resource_domains=[]).model_dump(
            by_alias=True, exclude_none=True
        ),
        "prefersBorder": True,
    }
}


def with_view(tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """The same tools, three of them with `_meta.ui.resourceUri`."""
    ui = {"ui": {"resourceUri": VIEW_URI}}
    return tuple(tool.model_copy(update={"meta": ui}) if tool.name in TOOLS else tool for tool in tools)


def view() -> Resource:
    """As it is listed: hosts may look at a view before they show it."""
    return Resource(
        uri=VIEW_URI,
        name="view",
        title="ComfyUI workflows",
        description="Shows a workflow's progress and outputs in hosts of MCP Apps.",
        mime_type=APP_MIME_TYPE,
        meta=_META,
    )


def read_view() -> ReadResourceResult:
    contents = TextResourceContents(uri=VIEW_URI, mime_type=APP_MIME_TYPE, text=_html(), meta=_META)
    return ReadResourceResult(contents=[contents])


@cache
def _html() -> str:
    return document("view.js", "screen.css", "view.css", title="ComfyUI workflows")
