"""What an engine makes of a workflow: converted and checked, with nothing queued.

The node list is the engine's, or a recorded answer of its GET /object_info: then no engine, no store and no
bridge is needed.
"""

import json
import secrets
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from comfy_mcp.domain.errors import EngineUnreachable, InvalidInput, carrying
from comfy_mcp.domain.graph import MAX_PROBLEMS, Graph, unwrapped
from comfy_mcp.domain.graph_checks import GraphReport
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.judging import Judged, in_ui_format, judge
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.partner_nodes import partner_nodes
from comfy_mcp.domain.ui_format import off_count
from comfy_mcp.domain.ui_texts import Moment
from comfy_mcp.operations.best_engine import best_engine, lists_for
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.json_texts import as_json, graph_in
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import ConvertResult, DryRunResult, NoParams, ProblemItem
from comfy_mcp.operations.spending import priced
from comfy_mcp.places.protocol import CHECK_IT_RUNS
from comfy_mcp.settings import Settings


def dry_run_result(
    graph: Graph, report: GraphReport, file: object, warnings: tuple[str, ...], engines: Sequence[str] = ()
) -> DryRunResult:
    """`file`: what `graph` was made from. `engines`: where it would run."""
    return DryRunResult(
        status="not_queued",
        node_count=len(graph.nodes),
        run_count=len(report.needed),
        off_count=off_count(unwrapped(file)) if isinstance(file, Mapping) else 0,
        engines=list(engines),
        warnings=list(warnings),
        **faults_of([report]),
        graph=dict(graph.raw),
        next_step="Submit it without the dry run to queue it.",
    )


def not_checked(services: Services, engine: EngineId | None) -> EngineUnreachable:
    """Of a dry run that has no node list to check with."""
    return EngineUnreachable(
        "No engine answers, so the workflow can't be checked.",
        next_step=services.engines.blocked(engine) or CHECK_IT_RUNS,
    )


def faults_of(reports: Sequence[GraphReport]) -> dict[str, list[Any]]:
    """What is wrong with graphs that run all the same, for a result: beside its warnings, as a structure."""
    problems = dict.fromkeys(each for report in reports for each in report.problems)
    models = {each.name: each for report in reports for each in report.missing.models}
    return {
        "problems": [ProblemItem.of(each) for each in (*problems,)[:MAX_PROBLEMS]],
        "missing_models": [each.details() for each in models.values()],
    }


async def convert_workflow(context: OperationContext, params: NoParams) -> ConvertResult:
    """The file that comes with the call, in API format.

    Raises InvalidGraph for what can't be converted, EngineUnreachable without an engine.
    """
    if context.content is None:
        raise InvalidInput("The call has no file.", next_step="Send the workflow's file with it.")
    services = context.services
    raw = await services.workflow_files.receive(context.content, services.settings.max_upload_bytes)
    raw, repairs = await graph_in(raw, services.workflow_files.parse)
    context.found.extend(repairs)
    known = await lists_for(services, raw)
    if not known:
        raise EngineUnreachable(
            "No engine answers that knows the classes of the workflow.",
            next_step="Start ComfyUI, or give a recorded answer of its GET /object_info: --object-info FILE.",
        )
    _, text, _ = await as_json(raw)
    _, judged = await best_engine(services.checker, raw, text, known, client=context.caller.client)
    return _converted(raw, judged, repairs)


def _converted(raw: object, judged: Judged, repairs: tuple[str, ...]) -> ConvertResult:
    """A node whose class the list lacks can't be converted, because its values have no names. Files and other
    values are not judged: they may be others where it will run."""
    report = judged.report
    if in_ui_format(raw) and report.missing.nodes and (error := judged.error()) is not None:
        raise error
    notes = [each.message for each in report.notes]
    return ConvertResult(graph=dict(judged.graph.raw), warnings=[*repairs, *judged.warnings, *notes])


def node_list(object_info: bytes) -> dict[str, Any]:
    """A recorded answer of GET /object_info. Raises InvalidInput for what is none."""
    raw = _recorded(object_info, "object_info")
    if not any(isinstance(each, Mapping) for each in raw.values()):
        raise _no_answer("object_info")
    return raw


def _recorded(text: bytes, name: str) -> dict[str, Any]:
    """Of GET /NAME. Raises InvalidInput."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise _no_answer(name)
    return raw


def _no_answer(name: str) -> InvalidInput:
    return InvalidInput(
        f"The file is not the answer of a ComfyUI's GET /{name}.",
        next_step=f"Save it with: curl $COMFYUI_URL/{name} > {name}.json",
    )


def moment_of(now_ms: int) -> Moment:
    """By the clock of this machine, and with a seed of its own."""
    at = datetime.fromtimestamp(now_ms / 1000).astimezone()
    date = {name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second")}
    return Moment(**date, seed=secrets.randbits(64))


class Recorded:
    """Converts and checks files by a recorded node list. `replacements`: the answer of GET
    /node_replacements that belongs to it; without, old class names that the engine replaces are missing."""

    def __init__(
        self,
        object_info: bytes,
        settings: Settings,
        now_ms: Callable[[], int],
        replacements: bytes | None = None,
        name: str = "the file",
    ) -> None:
        """`name`: of the recorded node list. Raises InvalidInput for what is no such answer."""
        old = () if replacements is None else _recorded(replacements, "node_replacements").keys()
        source = f"the node list in {name}"
        self._info = ObjectInfo.parse(node_list(object_info), replaceable=old, source=source)
        self._settings = settings
        self._now_ms = now_ms

    async def convert(self, content: AsyncIterable[bytes]) -> ConvertResult:
        """As `convert_workflow`."""
        raw, repairs = await self._read(content)
        with carrying(repairs):
            return _converted(raw, self._judged(raw), repairs)

    async def check(self, content: AsyncIterable[bytes]) -> DryRunResult:
        """As a dry run of `submit_workflow`."""
        raw, repairs = await self._read(content)
        with carrying(repairs):
            judged = self._judged(raw)
            if (error := judged.error()) is not None:
                raise error
        report = judged.report
        costs = priced(partner_nodes(judged.graph, report.needed, self._info))
        warnings = report.warnings + repairs + judged.warnings + costs
        return dry_run_result(judged.graph, report, raw, warnings)

    def _judged(self, raw: object) -> Judged:
        return judge(raw, self._info, moment=lambda: moment_of(self._now_ms()))

    async def _read(self, content: AsyncIterable[bytes]) -> tuple[Any, tuple[str, ...]]:
        from comfy_mcp.library import WorkflowFiles  # not when the module is imported: a surface's first step

        files = WorkflowFiles(self._settings, timeout_s=self._settings.request_timeout_s)
        return await graph_in(await files.receive(content, self._settings.max_upload_bytes), files.parse)
