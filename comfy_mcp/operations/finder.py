"""What a process remembers for its searches: indexes over names and words, and which workflows would run."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy_mcp.checking.checker import Checker
from comfy_mcp.domain.errors import BridgeError, GraphProblem
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.missing import Missing
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.parameters import Parameter, parameters_of
from comfy_mcp.domain.partner_nodes import partner_nodes
from comfy_mcp.domain.ranking import Index
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.best_engine import best_engine
from comfy_mcp.operations.json_texts import as_json

NOBODY = ClientId("")
"""Whose searches share a place at the checker: all of them."""

KEPT = 500
"""Verdicts on templates and starters that are kept; a saved workflow may change any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an engine would run a workflow, and what can be set of it. `missing` and `why` say what stops
    it; files that the caller brings do not. `shape`: see domain/needs.py."""

    runnable: bool
    parameters: tuple[Parameter, ...] = ()
    missing: Missing = field(default_factory=Missing)
    why: str | None = None
    paid: bool = False
    shape: str | None = None


class Finder:
    """One per process."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._entries: tuple[tuple[WorkflowEntry, ...], Index[int]] | None = None
        self._nodes: tuple[ObjectInfo, Index[str]] | None = None
        self._judged_by: NodeLists | None = None
        self._verdicts: dict[str, Verdict] = {}

    async def ranked(self, entries: tuple[WorkflowEntry, ...], query: str) -> list[WorkflowEntry]:
        """Those that have a word of the query, the best first."""
        if self._entries is None or self._entries[0] != entries:
            index = await asyncio.to_thread(lambda: Index(dict(enumerate(map(_of_entry, entries)))))
            self._entries = entries, index
        return [entries[at] for _, at in self._entries[1].search(query)]

    async def ranked_nodes(self, info: ObjectInfo, query: str) -> tuple[list[str], list[str]]:
        """The names of the classes that have a word of the query, the best first; and the words that none
        has."""
        if self._nodes is None or self._nodes[0] is not info:
            self._nodes = info, await asyncio.to_thread(_index_of_nodes, info)
        index = self._nodes[1]
        return [name for _, name in index.search(query)], index.unknown(query)

    async def verdict(self, entry: WorkflowEntry, raw: Any, nodes: NodeLists) -> Verdict:
        """Never raises for a workflow that can't be read."""
        if self._judged_by is not nodes:
            self._judged_by, self._verdicts = nodes, {}
        known = self._verdicts.get(entry.whole_name)
        if known is None:
            known = await self.judge(raw, nodes)
            if entry.origin in {WorkflowOrigin.TEMPLATE, WorkflowOrigin.STARTER}:
                while len(self._verdicts) >= KEPT:
                    del self._verdicts[next(iter(self._verdicts))]
                self._verdicts[entry.whole_name] = known
        return known

    def known_verdict(self, entry: WorkflowEntry, nodes: NodeLists) -> Verdict | None:
        return self._verdicts.get(entry.whole_name) if self._judged_by is nodes else None

    async def judge(self, raw: Any, nodes: NodeLists) -> Verdict:
        """By the engine that comes closest to running it. The choices are those of all."""
        try:
            _, text, _ = await as_json(raw)
            _, judged = await best_engine(self._checker, raw, text, nodes, client=NOBODY)
        except BridgeError as error:
            return Verdict(runnable=False, why=error.message)
        report, graph, info = judged.report, judged.graph, nodes.all
        large = self._checker.is_large(text)
        parameters = await beside(large, parameters_of, graph, info, file=raw, controls=judged.controls)
        brought = {target for each in parameters if each.needs_value for target in each.targets}
        left = [each for each in report.problems if not _is_of(each, brought)]
        runnable = report.runnable or (not left and not report.missing)
        return Verdict(
            runnable=runnable,
            parameters=parameters,
            missing=report.missing,
            why=None if runnable else " ".join(each.message for each in left[:2]) or None,
            paid=bool(partner_nodes(graph, graph.nodes.keys(), info)),
            shape=judged.needs.shape,
        )


def _is_of(problem: GraphProblem, targets: set[Any]) -> bool:
    return (problem.node_id, problem.input_name) in targets


def _of_entry(entry: WorkflowEntry) -> Sequence[tuple[str, int]]:
    return (
        (entry.title, 4),
        (entry.name, 3),
        (" ".join(entry.words), 3),
        (f"{entry.origin.value} {' '.join(entry.makes)} {' '.join((*entry.inputs, *entry.outputs))}", 1),
        (entry.about, 1),
    )


def _index_of_nodes(info: ObjectInfo) -> Index[str]:
    return Index(
        {
            name: (
                (name, 3),
                (known.title or "", 3),
                (" ".join(known.aliases), 3),
                (known.category, 1),
                (known.description, 1),
            )
            for name, known in info.classes.items()
        }
    )
