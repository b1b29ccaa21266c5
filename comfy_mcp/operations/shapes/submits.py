"""What a submit, a retry and a conversion answer."""

from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import Field

from comfy_mcp.domain.errors import GraphProblem
from comfy_mcp.operations.shapes.base import NextStep, Part, Result, StatusName, Text


class ProblemItem(Part):
    """One thing that is wrong with a workflow. `kind` is ComfyUI's own error type where there is one."""

    kind: str
    message: Text
    node_id: Text | None = None
    class_type: Text | None = None
    input_name: Text | None = None
    suggestions: list[Text] = Field(default_factory=list)

    @classmethod
    def of(cls, problem: GraphProblem) -> Self:
        return cls(**{**asdict(problem), "suggestions": list(problem.suggestions)})


class CheckedResult(Result):
    """Of a workflow that runs. `problems`: those of branches that will not run. `missing_models`: the model
    files that the engine does not list."""

    problems: list[ProblemItem] = Field(default_factory=list, exclude_if=lambda found: not found)
    missing_models: list[dict[str, Any]] = Field(default_factory=list, exclude_if=lambda found: not found)


class GraphResult(Result):
    """`graph` is in API format, as the engine gets it. `file` is what was submitted, where that was not the
    graph itself: a file in UI format, or a body `{"prompt": …, "extra_data": …}`."""

    workflow_id: str
    graph: dict[str, Any]
    file: dict[str, Any] | None

    def text(self) -> str:
        kind = "" if self.file is None else ", converted from the file that was submitted"
        return f"Workflow {self.workflow_id}: a graph of {len(self.graph)} node(s){kind}."


class SubmitResult(CheckedResult):
    workflow_id: str
    name: Text | None = None
    status: StatusName
    queue_position: int | None
    warnings: list[Text] = Field(default_factory=list)
    workflow_ids: list[str] = Field(default_factory=list)
    next_step: NextStep | None = None

    def text(self) -> str:
        warned = f" Warning: {' '.join(self.warnings)}" if self.warnings else ""
        several = f", {len(self.workflow_ids)} workflows" if self.workflow_ids else ""
        waits = "waits for others" if self.queue_position is None else f"position {self.queue_position}"
        head = f"Queued as {self.workflow_id}{several}, {waits}."
        return f"{head} {self.next_step or ''}{warned}"


class DryRunResult(CheckedResult):
    """A submit that only checks. `graph` is what the engine would get, in API format.

    Of its `node_count` nodes `run_count` run: what an output needs that has no fault. `off_count` more of the
    file in UI format are muted or bypassed. `engines`: of several, those that have all that it needs."""

    status: Literal["not_queued"]
    node_count: int
    run_count: int
    off_count: int = 0
    engines: list[str] = Field(default_factory=list)
    warnings: list[Text] = Field(default_factory=list)
    graph: dict[str, Any]
    next_step: NextStep | None = None

    def text(self) -> str:
        warned = f" Warning: {' '.join(self.warnings)}" if self.warnings else ""
        return f"It {self.verdict}. Nothing was queued. {self.next_step or ''}{warned}"

    @property
    def verdict(self) -> str:
        """Where it would run, how many nodes run, and how many do not."""
        on = f" on {', '.join(self.engines)}" if self.engines else ""
        of = "" if self.run_count == self.node_count else f"{self.run_count} of "
        off = f"; {self.off_count} more muted or bypassed" if self.off_count else ""
        return f"would run{on} ({of}{self.node_count} node{'' if self.node_count == 1 else 's'}{off})"


class ConvertResult(Result):
    """A workflow in API format, as ComfyUI's editor would send it."""

    graph: dict[str, Any]
    warnings: list[Text] = Field(default_factory=list)

    def text(self) -> str:
        return f"{len(self.graph)} nodes in API format."


class RetryResult(SubmitResult):
    """The new job; the old one does not change."""

    retry_of: str
