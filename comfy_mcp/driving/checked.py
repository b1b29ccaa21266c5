"""Graphs that this process has just parsed and checked, kept for its drivers: none is parsed twice."""

from dataclasses import dataclass, replace

from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.graph import Graph
from comfy_mcp.domain.graph_checks import GraphReport
from comfy_mcp.domain.ids import JobId

MAX_NODES = 20_000
"""In all graphs that are kept, some 30 MB; beyond it the oldest go, and who claims them parses them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """`submitted` is set on the way to the store only. `large`: its JSON is written in a thread.
    `by_engine`: a node list was there to check it with, not only its form."""

    graph: Graph
    report: GraphReport
    submitted: Submitted | None = None
    large: bool = False
    by_engine: bool = True


class CheckedGraphs:
    """By job, until it is claimed here."""

    def __init__(self) -> None:
        self._kept: dict[JobId, Checked] = {}
        self._nodes = 0

    def put(self, job_id: JobId, checked: Checked) -> None:
        """Without what was submitted: a claim brings that along. A submit that is repeated puts it again."""
        self.take(job_id)
        self._kept[job_id] = checked if checked.submitted is None else replace(checked, submitted=None)
        self._nodes += len(checked.graph.nodes)
        while self._nodes > MAX_NODES:
            self.take(next(iter(self._kept)))

    def take(self, job_id: JobId) -> Checked | None:
        checked = self._kept.pop(job_id, None)
        if checked is not None:
            self._nodes -= len(checked.graph.nodes)
        return checked
