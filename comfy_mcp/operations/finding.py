"""Find a workflow by what it does, and say what can be set of it."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.domain.job import JobQuery, JobStatus
from comfy_mcp.domain.missing import Missing
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.domain.parameters import Parameter
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.file_inputs import upload_command
from comfy_mcp.operations.finder import Verdict
from comfy_mcp.operations.named import JOB, entries_of, named_workflow, read_entry
from comfy_mcp.operations.shapes import (
    DescribedWorkflowResult,
    DescribeWorkflowParams,
    FindWorkflowParams,
    FoundWorkflowItem,
    FoundWorkflowsResult,
    MissingItem,
    NeededClassItem,
    NeededModelItem,
    ParameterItem,
)

JUDGED = 24
"""How many of the best hits are judged for whether they run here."""
AT_ONCE = 6
JUDGE_S = 4.0
"""Time for that; those that are not done are shown without an answer."""
MAX_CHOICES = 2_000
"""Of one input, where all are asked for."""
JOBS = 10
"""Most recent jobs among the hits."""

_NO_ENGINE = (
    "No engine answers: what runs here is not known, and its templates, its saved workflows and the starters "
    "for it are not listed."
)
_ABOUT, _INPUTS, _CHOICES = 160, 12, 12


async def find_workflow(context: OperationContext, params: FindWorkflowParams) -> FoundWorkflowsResult:
    """Those that run here first, then by how well the words fit. Without a query: the caller's own, starters,
    then templates by how much they are used."""
    services = context.services
    known, notes = await services.engines.last_lists()
    info = known.all
    entries = await entries_of(context, info)
    if params.kind:
        entries = tuple(each for each in entries if not each.makes or params.kind in each.makes)
    found = await services.finder.ranked(entries, params.query) if params.query else []
    nothing = params.query is not None and not found
    if not found:
        found = sorted(entries, key=lambda each: (_RANK[each.origin], -each.usage))
    best = _best(found)
    verdicts = {} if info is None else await _verdicts(context, best, known)
    best.sort(key=lambda each: _runs(verdicts.get(each.whole_name)))
    shown = [
        await _with_memory(context, _item(each, verdict, twin=_is_shadowed(each, entries)), verdict)
        for each in (*best, *(each for each in found if each not in best))[: params.limit]
        for verdict in (verdicts.get(each.whole_name),)
    ]
    jobs = await _jobs(context, params) if not params.kind else []
    items = [*shown[: max(1, params.limit - len(jobs))], *jobs]
    first = next((each for each in shown if each.runnable), None)
    warnings = [f"Nothing fits {params.query!r:.100}; these exist."] if nothing and found else []
    return FoundWorkflowsResult(
        workflows=items,
        total=len(found) + len(jobs),
        warnings=[*warnings, *notes] if info is not None else [*warnings, _NO_ENGINE],
        next_step=None if first is None else _how(context, first),
    )


async def describe_workflow(
    context: OperationContext, params: DescribeWorkflowParams
) -> DescribedWorkflowResult:
    """Raises NotFound with the nearest names."""
    known, notes = await context.services.engines.last_lists()
    named = await named_workflow(context, params.name, known.all)
    finder = context.services.finder
    if named.entry is None:
        verdict = await finder.judge(named.raw, known)
        item = FoundWorkflowItem(name=params.name, origin="job", label=named.title or None)
        item = item.model_copy(update=_verdict_members(verdict, 0))
    else:
        verdict = await finder.verdict(named.entry, named.raw, known)
        item = _item(named.entry, verdict)
    if not known:
        item = item.model_copy(update={"runnable": None})
    item = await _with_memory(context, item, verdict)
    most = MAX_CHOICES if params.all_choices else _CHOICES
    return DescribedWorkflowResult(
        workflow=item,
        parameters=[parameter_item(each, most) for each in verdict.parameters],
        next_step=_how(context, item) if item.runnable else None,
        warnings=list(notes) if known else [_NO_ENGINE],
    )


async def _with_memory(
    context: OperationContext, item: FoundWorkflowItem, verdict: Verdict | None
) -> FoundWorkflowItem:
    """With what such workflows needed of GPU memory before, where that was measured."""
    if verdict is None or verdict.shape is None:
        return item
    need = await context.services.store.vram_need(verdict.shape)
    return item if need is None else item.model_copy(update={"peak_vram_bytes": need})


def parameter_item(each: Parameter, most: int) -> ParameterItem:
    choices = each.choices or ()
    is_seed = each.name.startswith("seed")
    return ParameterItem(
        name=each.name,
        type=each.kind.value,
        value=each.value,
        label=each.label,
        needed=each.needs_value,
        minimum=None if is_seed else each.minimum,
        maximum=None if is_seed else each.maximum,
        choices=list(choices[:most]),
        choice_count=len(choices) or None,
        nodes=[f"{node}.{name}" for node, name in each.targets],
    )


def _best(found: Sequence[WorkflowEntry]) -> list[WorkflowEntry]:
    """The first JUDGED, with all that are not templates: those are few, and likelier to be meant."""
    own = [each for each in found if each.origin is not WorkflowOrigin.TEMPLATE][:JUDGED]
    templates = [each for each in found if each.origin is WorkflowOrigin.TEMPLATE]
    chosen = {*(each.whole_name for each in (*own, *templates[: JUDGED - len(own)]))}
    return [each for each in found if each.whole_name in chosen]


async def _verdicts(
    context: OperationContext, entries: Sequence[WorkflowEntry], known: NodeLists
) -> dict[str, Verdict]:
    finder = context.services.finder
    found: dict[str, Verdict] = {}
    waiting = iter(entries)

    async def work() -> None:
        for entry in waiting:
            verdict = finder.known_verdict(entry, known)
            if verdict is None:
                try:
                    verdict = await finder.verdict(entry, await read_entry(context, entry, known.all), known)
                except BridgeError as error:
                    verdict = Verdict(runnable=False, why=error.message)
            found[entry.whole_name] = verdict

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(JUDGE_S), asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(entries))):
                group.create_task(work())
    return found


def _runs(verdict: Verdict | None) -> int:
    return 1 if verdict is None else 0 if verdict.runnable else 2


def _is_shadowed(entry: WorkflowEntry, entries: Sequence[WorkflowEntry]) -> bool:
    """Whether another one is meant by its name alone."""
    return next(each for each in entries if each.name == entry.name) is not entry


def _item(entry: WorkflowEntry, verdict: Verdict | None, *, twin: bool = False) -> FoundWorkflowItem:
    about = entry.about if len(entry.about) <= _ABOUT else f"{entry.about[: _ABOUT - 1]}…"
    item = FoundWorkflowItem(
        name=entry.whole_name if twin else entry.name,
        origin=entry.origin.value,
        label=entry.title if entry.title.lower() != entry.name.lower() else None,
        about=about or None,
        inputs=list(entry.inputs),
        outputs=list(entry.outputs),
        paid=entry.paid,
    )
    return item if verdict is None else item.model_copy(update=_verdict_members(verdict, entry.model_bytes))


def _verdict_members(verdict: Verdict, model_bytes: int) -> dict[str, Any]:
    members: dict[str, Any] = {"runnable": verdict.runnable, "paid": verdict.paid}
    if verdict.runnable:
        members["inputs"] = [_in_words(each) for each in verdict.parameters[:_INPUTS]]
    else:
        members["missing"] = _missing(verdict.missing, verdict.why, model_bytes)
    return members


def _in_words(each: Parameter) -> str:
    return f"{each.name} ({each.kind.value}{', needed' if each.needs_value else ''})"


def _missing(missing: Missing, why: str | None, model_bytes: int) -> MissingItem:
    return MissingItem(
        classes=[NeededClassItem(name=each.name, pack=each.pack) for each in missing.classes[:20]],
        models=[
            NeededModelItem(name=each.name, folder=each.folder, url=each.url) for each in missing.models[:20]
        ],
        model_bytes=model_bytes or None if missing.models else None,
        other=None if missing.classes or missing.models else why,
    )


async def _jobs(context: OperationContext, params: FindWorkflowParams) -> list[FoundWorkflowItem]:
    """Recent jobs that were completed, each kind of them once; with a query those whose name has a word."""
    caller = context.caller
    page = await context.services.store.list_jobs(
        JobQuery(
            statuses=(JobStatus.COMPLETED,), client=None if caller.sees_all else caller.client, limit=JOBS * 3
        )
    )
    asked = {word.lower() for word in (params.query or "").split()}
    found: dict[object, FoundWorkflowItem] = {}
    for job in page.items:
        words = {word.lower() for word in (job.name or "").split()}
        if not asked or asked & words:
            item = FoundWorkflowItem(
                name=f"{JOB}{job.id}",
                origin="job",
                label=job.name,
                runnable=True,
                peak_vram_bytes=job.peak_vram_bytes,
            )
            found.setdefault((job.shape, job.name), item)
    return list(found.values())[: 3 if params.limit < JOBS else JOBS]


def _how(context: OperationContext, item: FoundWorkflowItem) -> str:
    first = next((name for each in item.inputs if (name := each.partition(" ")[0])), None)
    given = f', inputs={{"{first}": …}}' if first else ""
    upload = upload_command(context) if any(each.endswith("needed)") for each in item.inputs) else None
    file = f" Your own file is uploaded first (its answer has the name): {upload}." if upload else ""
    return f'Call submit_workflow(workflow="{item.name}"{given}).{file}'


_RANK = {
    WorkflowOrigin.SAVED: 0,
    WorkflowOrigin.FOLDER: 0,
    WorkflowOrigin.STARTER: 1,
    WorkflowOrigin.TEMPLATE: 2,
}
