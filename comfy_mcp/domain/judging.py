"""All that is decided about a workflow before it becomes a job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import GraphProblem, InvalidGraph
from comfy_mcp.domain.graph import OBJECT, Graph, parse_graph, unwrapped
from comfy_mcp.domain.graph_checks import GraphReport, check_graph
from comfy_mcp.domain.missing import model_links
from comfy_mcp.domain.needs import Needs, needs_of
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_format import is_ui_format
from comfy_mcp.domain.ui_scopes import Budget, Controls, refusal
from comfy_mcp.domain.ui_texts import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """`warnings` are those of the conversion; the report has its own. `controls`: see `ui_scopes`."""

    graph: Graph
    report: GraphReport
    needs: Needs
    warnings: tuple[str, ...]
    controls: Controls

    def error(self) -> InvalidGraph | None:
        """The error to raise, with all that was found beside it; None for a graph that would run."""
        error = self.report.error()
        return None if error is None else error.with_warnings([*self.warnings, *self.report.warnings])


def in_ui_format(raw: object) -> bool:
    """Whether it can be read only with an engine's node list, which has the names of the values."""
    return isinstance(raw, OBJECT) and is_ui_format(unwrapped(raw))


def judge(
    raw: object,
    info: ObjectInfo | None,
    budget: Budget | None = None,
    moment: Callable[[], Moment | None] = lambda: None,
) -> Judged:
    """`raw` in API format as at `moment`, which is asked for where that matters, checked against an engine's
    classes.

    Raises InvalidGraph for what is no graph, and what `budget` raises. Whether the graph would run is in the
    report.
    """
    controls: Controls = {}
    refused: list[GraphProblem] = []
    converted, warnings = api_format(raw, info, budget, moment, controls, refused)
    graph = parse_graph(converted)
    report = check_graph(graph, info, model_links(raw))
    if refused:
        raise _refusal(refused, report).with_warnings(warnings)
    return Judged(graph=graph, report=report, needs=needs_of(graph), warnings=warnings, controls=controls)


def _refusal(refused: Sequence[GraphProblem], report: GraphReport) -> InvalidGraph:
    """What can't be converted, and all that is wrong elsewhere: what is said of these nodes themselves, or of
    an input whose link leads in a ring, may be wrong only because they are half converted."""
    known = {each.node_id for each in refused if each.kind == "graph_ui_format"}
    rings = {(each.node_id, each.input_name) for each in refused}

    def elsewhere(node: str | None) -> bool:
        return node not in known and not any(str(node).startswith(f"{host}:") for host in known)

    classes = tuple(each for each in report.missing.classes if any(map(elsewhere, each.nodes)))
    missing = replace(report.missing, classes=classes)
    others = [
        each
        for each in report.problems
        if elsewhere(each.node_id)
        and (each.node_id, each.input_name) not in rings
        and not missing.covers(each)
    ]
    return refusal(
        [*refused, *others],
        lacks=missing.in_a_sentence() if missing else "",
        next_step=missing.next_step,
        details=missing.details() if missing else {},
    )
