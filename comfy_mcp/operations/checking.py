"""What an engine makes of a workflow: converted and checked, with nothing queued.

The node list is the engine's, or a recorded answer of its GET /object_info: then no engine, no store and no
bridge is needed.
"""

import json
from collections.abc import AsyncIterable, Mapping
from typing import Any

from comfy_mcp.domain.errors import EngineUnreachable, ErrorCode, InvalidInput
from comfy_mcp.domain.graph import Graph, parse_graph, unwrapped
from comfy_mcp.domain.graph_checks import GraphReport, check_graph
from comfy_mcp.domain.missing import model_links
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_conversion import api_format
from comfy_mcp.domain.ui_format import is_ui_format
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import ConvertResult, DryRunResult, NoParams
from comfy_mcp.settings import Settings


def read_graph(raw: object, info: ObjectInfo | None) -> tuple[Graph, GraphReport, tuple[str, ...]]:
    """The graph in API format, what would run of it, and the warnings of the conversion."""
    converted, warnings = api_format(raw, info)
    graph = parse_graph(converted)
    return graph, check_graph(graph, info, model_links(raw)), warnings


def dry_run_result(graph: Graph, warnings: tuple[str, ...]) -> DryRunResult:
    return DryRunResult(
        node_count=len(graph.nodes),
        warnings=list(warnings),
        graph=dict(graph.raw),
        next_step="Submit it without the dry run to queue it.",
    )


async def convert_workflow(context: OperationContext, params: NoParams) -> ConvertResult:
    """The file that comes with the call, in API format.

    Raises InvalidGraph for what can't be converted, EngineUnreachable without an engine.
    """
    if context.content is None:
        raise InvalidInput("The call has no file.", next_step="Send the workflow's file with it.")
    services = context.services
    raw = await services.workflow_files.receive(context.content, services.settings.max_upload_bytes)
    info = await services.engines.object_info()
    if info is None:
        raise EngineUnreachable(
            "No engine answers that knows the classes of the workflow.",
            next_step="Start ComfyUI, or give a recorded answer of its GET /object_info: --object-info FILE.",
        )
    return _converted(raw, info)


def _converted(raw: object, info: ObjectInfo) -> ConvertResult:
    """A node whose class the list lacks can't be converted, because its values have no names. Files and other
    values are not judged: they may be others where it will run."""
    graph, report, warnings = read_graph(raw, info)
    in_ui_format = isinstance(raw, Mapping) and is_ui_format(unwrapped(raw))
    if in_ui_format and report.missing.classes and (error := report.error()) is not None:
        raise error
    return ConvertResult(graph=dict(graph.raw), warnings=list(warnings))


class Recorded:
    """Converts and checks files by a recorded node list."""

    def __init__(self, object_info: bytes, settings: Settings) -> None:
        """Raises InvalidInput for what is no answer of GET /object_info."""
        try:
            raw = json.loads(object_info)
        except (ValueError, RecursionError):
            raw = None
        if not isinstance(raw, Mapping) or not any(isinstance(each, Mapping) for each in raw.values()):
            raise InvalidInput(
                "The node list is not the answer of a ComfyUI's GET /object_info.",
                next_step="Save it with: curl $COMFYUI_URL/object_info > object_info.json",
                code=ErrorCode.INVALID_ARGUMENT,
            )
        self._info = ObjectInfo.parse(raw)
        self._settings = settings

    async def convert(self, content: AsyncIterable[bytes]) -> ConvertResult:
        """As `convert_workflow`."""
        return _converted(await self._read(content), self._info)

    async def check(self, content: AsyncIterable[bytes]) -> DryRunResult:
        """As a dry run of `submit_workflow`."""
        graph, report, warnings = read_graph(await self._read(content), self._info)
        if (error := report.error()) is not None:
            raise error
        return dry_run_result(graph, warnings + report.warnings)

    async def _read(self, content: AsyncIterable[bytes]) -> Any:
        from comfy_mcp.library import WorkflowFiles  # not when the module is imported: a surface's first step

        files = WorkflowFiles(self._settings, timeout_s=self._settings.request_timeout_s)
        return await files.receive(content, self._settings.max_upload_bytes)
