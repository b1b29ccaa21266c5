"""A result as an agent gets it: what one chooses or acts by, in few tokens, and bounded.

Nulls, empty values and defaults are left out. An entry of a list has its model's `entry` members, unless
`fields` asks for "full"; ids of outputs in lists are their first eight characters, which every operation
takes. Claude Code takes 25,000 tokens a result (measured), Claude Desktop 1 MB.
"""

from collections.abc import Collection, Mapping
from typing import Any

from comfy_mcp.domain.shown import counted
from comfy_mcp.operations.ids import WELL_KNOWN
from comfy_mcp.operations.repairs import UUID
from comfy_mcp.operations.shapes import (
    CheckedResult,
    GraphResult,
    ModelsResult,
    OutputItem,
    OutputsResult,
    Part,
    QueueResult,
    Result,
    ViewResult,
    WorkflowResult,
    WorkflowsResult,
)
from comfy_mcp.operations.views import OUTPUTS_SHOWN

Json = dict[str, Any]
Context = Mapping[str, Any] | None

QUEUE_SHOWN = 20
"""Jobs of each kind in the queue; the counts are of all."""

GRAPH_CHARS = 200_000
"""Of a graph with the file that it was made from; then the file is left out."""

TEXT_LIMIT = 4_000
NOTE_LIMIT = 20_000
CONTENT_LIMIT = 20_000
SNIPPET = 100
"""Characters: of an error or a warning, of a text that is looked at, of all texts of one answer, of one in a
list."""

_WITHOUT_LINKS = frozenset({"url", "uri", "subfolder", "folder", "content"})

WARNINGS, MAX_WARNINGS = 20, 100
"""Of a workflow's state; of a submit."""


def brief(result: Result, context: Context = None) -> Json:
    """The JSON of a result. `context`: that of the dump (shapes/base.py:in_words)."""
    full = result.fields == "full"
    match bounded(result):
        case WorkflowsResult(workflows=items) if not full:
            return _list(result, "workflows", [_job(item) for item in items], context)
        case WorkflowsResult(workflows=items):
            jobs = [_dump(_bounded_job(item), context, out=_out_of_state()) for item in items]
            return _list(result, "workflows", jobs, context)
        case QueueResult(running=running, queued=queued, blocked=blocked):
            shown = {
                "running": [_job(item) for item in running[:QUEUE_SHOWN]],
                "queued": [_job(item) for item in queued[:QUEUE_SHOWN]],
                "blocked": [_job(item) for item in blocked[:QUEUE_SHOWN]],
            }
            return _dump(result, context, out=set(shown)) | shown
        case OutputsResult(outputs=items):
            outputs = [_dump(item, context) if full else _output(item) for item in items]
            return _list(result, "outputs", outputs, context)
        case ModelsResult(models=items):
            models = [_entry(item) if not full else _dump(item, context) for item in items]
            return _list(result, "models", models, context)
        case WorkflowResult() as state:
            return _dump(state, context, out=_out_of_state())
        case ViewResult() as view:
            return _dump(view, context, out={"output": _WITHOUT_LINKS})
        case other:
            return _dump(other, context)


def bounded(result: Result) -> Result:
    """The result with no more than a client can take."""
    match result:
        case WorkflowResult():
            return _bounded_job(result)
        case OutputsResult(outputs=items):
            full = result.fields == "full"
            return result.model_copy(
                update={"outputs": _short(items if full else [_found(each) for each in items])}
            )
        case ViewResult(note=note, output=item):
            note = cut(note, NOTE_LIMIT) if note is not None else None
            return result.model_copy(update={"note": note, "output": _short([item])[0]})
        case CheckedResult(warnings=found):
            return result.model_copy(update={"warnings": list(counted(found, MAX_WARNINGS))})
        case GraphResult(graph=graph, file=dict() as file) if len(str(graph)) + len(str(file)) > GRAPH_CHARS:
            left_out = "The file that was submitted is too large to be shown here."
            return result.model_copy(update={"file": None, "warnings": [*result.warnings, left_out]})
        case _:
            return result


def _found(item: OutputItem) -> OutputItem:
    return item.model_copy(update={"output_id": short_id(item.output_id)})


def short_id(whole: str) -> str:
    """Enough of an id to find it again. What is no UUID stays as it is."""
    return whole[:WELL_KNOWN] if UUID.fullmatch(whole) else whole


def _list(result: Result, member: str, entries: list[Json], context: Context) -> Json:
    return {member: entries} | _dump(result, context, out={member})


def _dump(part: Part, context: Context = None, *, out: Any = None) -> Json:
    return part.model_dump(
        mode="json", by_alias=True, exclude=out, exclude_none=True, exclude_defaults=True, context=context
    )


def _entry(part: Part, *, but: Collection[str] = ()) -> Json:
    return _dump(part, out={name for name in type(part).model_fields if name not in part.entry} | {*but})


def _job(item: WorkflowResult) -> Json:
    entry = _entry(item, but=() if item.status == "running" else ("progress",))
    if "waitingFor" in entry:  # the counts say it shorter, or it is a sentence
        why = entry["waitingFor"]
        hidden = {"message"} if why["reason"] == "turn" else {"since", "engines"}
        entry["waitingFor"] = {name: value for name, value in why.items() if name not in hidden}
    return {name: cut(value, SNIPPET) if name == "error" else value for name, value in entry.items()}


def _output(item: OutputItem) -> Json:
    entry = _entry(item)
    if item.content is not None:
        entry["content"] = cut(item.content, SNIPPET)
    return {name: value for name, value in entry.items() if value != ""}


def _out_of_state() -> Any:
    return {"outputs": {"__all__": OutputItem.unstated}}


def _bounded_job(job: WorkflowResult) -> WorkflowResult:
    failure = job.failure
    if failure is not None:
        failure = failure.model_copy(update={"message": cut(failure.message, TEXT_LIMIT)})
    return job.model_copy(
        update={
            "outputs": _short(job.outputs[:OUTPUTS_SHOWN]),
            "warnings": [cut(text, TEXT_LIMIT) for text in counted(job.warnings, WARNINGS)],
            "error": cut(job.error, TEXT_LIMIT) if job.error is not None else None,
            "failure": failure,
        }
    )


def _short(items: list[OutputItem]) -> list[OutputItem]:
    """Text outputs share one budget: a list of long texts is not for a model's context."""
    limit = CONTENT_LIMIT // max(1, len(items))
    return [
        item
        if item.content is None or len(item.content) <= limit
        else item.model_copy(update={"content": cut(item.content, limit)})
        for item in items
    ]


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
