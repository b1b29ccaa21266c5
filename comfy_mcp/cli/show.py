"""Results as lines for people."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from comfy_mcp.cli.output import in_commands
from comfy_mcp.cli.progress import describe
from comfy_mcp.operations.shapes import (
    AttemptItem,
    DescribedWorkflowResult,
    EngineItem,
    FoundNodesResult,
    FoundWorkflowsResult,
    ModelsResult,
    OutputItem,
    OutputsResult,
    QueueResult,
    WorkflowResult,
    WorkflowsResult,
)


def status_lines(state: WorkflowResult) -> list[str]:
    """A block about one job."""
    facts = [
        ("workflow", state.workflow_id),
        ("name", state.name),
        ("status", describe(state)),
        ("client", f"{state.client}, priority {state.priority}"),
        ("engine", f"{state.engine}, attempt {state.attempt}" if state.engine else None),
        ("created", time_text(state.created_time)),
        ("start by", time_text(state.queue_deadline)),
        ("started", time_text(state.start_time)),
        ("end by", time_text(state.run_deadline)),
        ("ended", time_text(state.completion_time)),
        ("error", state.failure.text() if state.failure else state.error),
        *(("warning", warning) for warning in state.warnings),
        ("retry of", state.retry_of),
        ("retried", state.retried_by),
        *(("attempt", attempt_line(each)) for each in state.attempts or ()),
        *(("output", output_line(item)) for item in state.outputs),
    ]
    return [f"{name:<9} {value}" for name, value in facts if value]


def attempt_line(item: AttemptItem) -> str:
    ended = f" to {time_text(item.end_time)}" if item.end_time is not None else ""
    reason = f": {item.reason}" if item.reason else ""
    where = f"{item.attempt} on {item.engine} as {item.prompt_id}"
    return f"{where}, {time_text(item.claimed_time)}{ended}, {item.outcome}{reason}"


def output_line(item: OutputItem) -> str:
    name = item.filename or (item.content or "").split("\n", 1)[0][:60]
    return f"{item.output_id}  {item.type}  {size_text(item.size)}  {name}"


def found_lines(result: FoundWorkflowsResult) -> list[str]:
    return [each.text() for each in result.workflows] or ["No workflow."]


def described_lines(result: DescribedWorkflowResult) -> list[str]:
    head = result.workflow.model_copy(update={"inputs": []}).text()
    return [head, *(f"  {each.text()}" for each in result.parameters)]


def nodes_lines(result: FoundNodesResult) -> list[str]:
    if not result.nodes:
        return [f"No such node. {in_commands(result.next_step or '')}"]
    page = result.model_copy(update={"warnings": [], "next_cursor": None})
    return [*page.text().splitlines(), *_more(result.next_cursor)]


def models_lines(result: ModelsResult) -> list[str]:
    rows = [
        (item.type, item.name, size_text(item.size), (item.hash or "")[:12] or "-") for item in result.models
    ]
    return [*table(("TYPE", "NAME", "SIZE", "SHA256"), rows), *_more(result.next_cursor)]


def outputs_lines(result: OutputsResult) -> list[str]:
    rows = [
        (
            item.output_id,
            item.type,
            size_text(item.size),
            time_text(item.created_at) or "-",
            item.filename or "(text)",
        )
        for item in result.outputs
    ]
    return [*table(("OUTPUT", "TYPE", "SIZE", "CREATED", "NAME"), rows), *_more(result.next_cursor)]


def engines_lines(engines: Sequence[EngineItem]) -> list[str]:
    rows = [
        (each.id, each.state, each.url, ", ".join(each.labels) or "-", each.error or "-") for each in engines
    ]
    return table(("ENGINE", "STATE", "URL", "LABELS", "ERROR"), rows) if rows else []


def workflows_lines(result: WorkflowsResult) -> list[str]:
    return [*_jobs_table(result.workflows), *_more(result.next_cursor)]


def queue_lines(result: QueueResult) -> list[str]:
    counts = ", ".join(f"{count} {status}" for status, count in result.counts.items() if count)
    foreign = [f"{result.foreign_count} submitted in ComfyUI itself"] if result.foreign_count else []
    elsewhere = [
        f"{item.prompt_id}  {item.state} on {item.engine}, submitted in ComfyUI itself"
        for item in result.foreign
    ]
    last = ", ".join([counts or "no workflow was submitted yet", *foreign])
    return [*_jobs_table([*result.running, *result.queued]), *elsewhere, last]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def size_text(size: int | None) -> str:
    """Bytes as `1.5 MB` (powers of 1000); `-` when unknown."""
    if size is None:
        return "-"
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def time_text(epoch_ms: int | None) -> str | None:
    """Local time, to the second."""
    if epoch_ms is None:
        return None
    return datetime.fromtimestamp(epoch_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _jobs_table(jobs: Sequence[WorkflowResult]) -> list[str]:
    rows = [
        (
            *(job.workflow_id, _state(job), job.priority, job.client),
            *(time_text(job.created_time) or "-", job.name or "-"),
        )
        for job in jobs
    ]
    return table(("WORKFLOW", "STATUS", "PRIORITY", "CLIENT", "CREATED", "NAME"), rows)


def _state(job: WorkflowResult) -> str:
    return f"{describe(job)} ({job.failure.kind})" if job.failure else describe(job)


def _more(cursor: str | None) -> list[str]:
    return [f"more: --cursor {cursor}"] if cursor else []
