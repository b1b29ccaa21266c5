"""A workflow, judged by the engines in turn until one finds nothing missing."""

from collections.abc import Collection, Mapping, Sequence

from comfy_mcp.checking.checker import Checker
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.judging import Judged, in_ui_format
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.operations.services import Services

FRESH_S = 5.0
"""Before a graph is refused for an unknown name, a node list older than this is asked for again."""


async def lists_for(services: Services, raw: object) -> NodeLists:
    """The engines' node lists. A workflow in UI format is refused without any: so an engine's first list,
    for which a ComfyUI with many node packs needs some seconds, is waited for."""
    known = await services.engines.node_lists()
    if not known and in_ui_format(raw):
        known = await services.engines.node_lists(max_age_s=FRESH_S)
    return known


async def best_engine(
    checker: Checker,
    raw: object,
    text: bytes,
    known: Mapping[EngineId, ObjectInfo],
    *,
    client: ClientId,
    able: Collection[EngineId] | None = None,
) -> tuple[EngineId | None, Judged]:
    """The engine that finds least missing, of those in `able` (None: of all), and what it says; None without
    any node list. `text` is `raw` as JSON.

    Raises InvalidGraph where no engine can read the workflow, and what `Checker.judge` raises.
    """
    best: tuple[EngineId | None, Judged] | None = None
    error: InvalidGraph | None = None
    asked: Sequence[EngineId | None] = [each for each in known if able is None or each in able]
    for engine in asked or [None]:
        try:
            info = None if engine is None else known[engine]
            judged = await checker.judge(raw, text, info, client=client)
        except InvalidGraph as fault:  # it can't even be converted with these nodes
            error = error or fault
            continue
        report = judged.report
        if report.runnable and not report.problem_count and not report.may_be_stale:
            return engine, judged
        if best is None or _rank(judged) < _rank(best[1]):
            best = engine, judged
    if best is None:
        assert error is not None
        raise error
    return best


def _rank(judged: Judged) -> tuple[bool, int, int]:
    report = judged.report
    return not report.runnable, len(report.missing.nodes), report.problem_count
