"""Submit a workflow, and submit a failed or cancelled one again."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from comfy_mcp.domain import large_json
from comfy_mcp.domain.access import Idempotency, Right
from comfy_mcp.domain.batches import Combination, combinations, require_other, with_seeds
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.client_files import foreign_files
from comfy_mcp.domain.errors import Denied, ErrorCode, InvalidInput, LimitExceeded
from comfy_mcp.domain.events import JobQueued, Priority
from comfy_mcp.domain.extra_data import Submitted, submitted_file
from comfy_mcp.domain.file_inputs import FOLDER, placed
from comfy_mcp.domain.graph import Graph, parse_graph, unwrapped
from comfy_mcp.domain.ids import AUTO, LOCAL, BatchId, ClientId, EngineId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import NO_WISH, Wish
from comfy_mcp.domain.partner_nodes import partner_nodes
from comfy_mcp.domain.shown import counted
from comfy_mcp.domain.transitions import queued
from comfy_mcp.domain.webhooks import Webhook
from comfy_mcp.driving.checked import Checked
from comfy_mcp.operations.batches import jobs_of
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.chains import parents_of, with_takes
from comfy_mcp.operations.checking import dry_run_result, faults_of, not_checked
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.file_inputs import doubted_files, with_files
from comfy_mcp.operations.given import Given, given_workflow, name_of
from comfy_mcp.operations.json_texts import as_json
from comfy_mcp.operations.judging import engines_for, judged_by_engines, with_names
from comfy_mcp.operations.lanes import judged_for_lane, require_lane
from comfy_mcp.operations.memory import memory_warnings
from comfy_mcp.operations.priorities import require_high
from comfy_mcp.operations.saving import checked_place
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import DryRunResult, SubmitParams, SubmitResult
from comfy_mcp.operations.spending import priced, spending
from comfy_mcp.operations.spilling import Made, here_or_there
from comfy_mcp.operations.webhooks import webhook_of
from comfy_mcp.operations.written import as_written

MAX_TIMEOUT_S = 7 * 86_400
"""Longest queue or run timeout that a submit may ask for: beyond it the number is a mistake."""

IDEMPOTENCY_TTL_S = 86_400
"""How long an idempotency key stands for the first submit under it: a client retries within minutes."""

MAX_WARNINGS = 100
"""Of one job, as they are kept with it; a dry run says more."""

BATCH_BYTES = 16 * 2**20
"""All graphs of one submit together: they are written in one transaction, in which nobody else writes."""


async def submit_workflow(context: OperationContext, params: SubmitParams) -> SubmitResult | DryRunResult:
    """Check the graph, write the job, return. From then on it is durable. A dry run only checks."""
    services = context.services
    params = with_names(context.services.engines.equipment, params)
    require_lane(context, params.gpu, _wish(params))
    priority = Priority(params.priority)
    require_high(context, priority)
    save_to = await checked_place(context, params.save_to)
    webhook = await webhook_of(context, params.webhook)
    varied = params.variations is not None or params.matrix is not None
    wanted = combinations(1 if params.variations is None else params.variations, params.matrix or {})
    given = await given_workflow(context, params, wanted[0][0])
    auto = params.gpu == AUTO
    make = partial(_made, context, given, params, wanted if varied else (), save_to)
    made = await make(LOCAL if auto else params.gpu)
    checked, needs, warnings, _ = made[0]
    after = await parents_of(context, params)
    if params.dry_run:
        if params.gpu == LOCAL and not checked.by_engine:
            raise not_checked(services, _wish(params).engine)
        able = engines_for(services, needs) if params.gpu in {LOCAL, AUTO} else ()
        return dry_run_result(checked.graph, checked.report, given.raw, warnings, able)
    use = await idempotency_of(
        context, params.idempotency_key, lambda: _submitted(params, given.same), large=checked.large
    )
    how = How(
        after=after,
        client=context.caller.client,
        lane=LOCAL if auto else params.gpu,
        priority=priority,
        name=await name_of(given, checked),
        queue_timeout_ms=_timeout_ms(services, "queue_timeout_s", params.queue_timeout_s),
        run_timeout_ms=_timeout_ms(services, "run_timeout_s", params.run_timeout_s),
        webhook=webhook,
        tags=tuple(sorted(params.tags.items())),
    )

    async def write(made: Sequence[Made], lane: str) -> SubmitResult:
        there = how if lane == how.lane else replace(how, lane=lane)
        if varied:
            hows = [
                replace(there, name=await name_of(given, each[0])) if params.matrix else there
                for each in made
            ]
            return await submit_batch(services, list(zip(made, hows, strict=True)), use)
        return await _submit_one(services, made[0], use, there)

    if not auto:
        return await write(made, params.gpu)
    return await here_or_there(context, queued(how.event(services, made[0])), made, make, write)


async def _submit_one(services: Services, made: Made, use: Idempotency | None, how: "How") -> SubmitResult:
    job, position = await write_one(services, made, use, how)
    return SubmitResult(
        workflow_id=job.id,
        name=job.name,
        status="queued",  # a repeated submit gets the first answer again, whatever has become of the job
        queue_position=position or None,
        warnings=list(job.warnings),
        **faults_of([made[0].report]),
        next_step=f'Call wait_for_workflow(workflow_id="{job.id}").',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What a submit says beside the graph."""

    client: ClientId
    lane: str
    priority: Priority
    queue_timeout_ms: int | None
    run_timeout_ms: int | None
    name: str | None
    after: tuple[Parent, ...]
    webhook: Webhook | None
    tags: tuple[tuple[str, str], ...]
    retry_of: JobId | None = None

    def event(self, services: Services, made: Made, batch: BatchId | None = None) -> JobQueued:
        checked, needs, warnings, takes = made
        budget = None if self.lane == LOCAL else services.settings.budget
        spend, run_timeout_ms = None, self.run_timeout_ms
        if budget is not None:
            spend, run_timeout_ms = budget.spend(run_timeout_ms)
        return JobQueued(
            after=with_takes(self.after, takes),
            job_id=JobId(services.new_id()),
            at=services.now_ms(),
            client=self.client,
            lane=self.lane,
            priority=self.priority,
            node_count=len(checked.graph.nodes),
            warnings=counted(warnings, MAX_WARNINGS),
            queue_timeout_ms=self.queue_timeout_ms,
            run_timeout_ms=run_timeout_ms,
            retry_of=self.retry_of,
            shape=needs.shape,
            spend=spend,
            batch=batch,
            name=self.name,
            webhook=self.webhook,
            tags=self.tags,
        )


async def write_one(
    services: Services, made: Made, idempotency: Idempotency | None, how: How
) -> tuple[Job, int]:
    """The job, written, and its place in the queue."""
    event = how.event(services, made)

    async def submitting() -> list[tuple[Job, int]]:
        return [await services.engines.submit(event, made[0], made[1], idempotency)]

    return (await as_written(services, [event.job_id], submitting()))[0]


async def _made(
    context: OperationContext,
    given: Given,
    params: SubmitParams,
    wanted: Sequence[Combination],
    save_to: str | None,
    lane: str,
) -> list[Made]:
    """What is submitted, for a lane: one workflow, or one of each combination."""
    file, left_out = submitted_file(given.raw)
    checked, needs, warnings, takes = await checked_graph(
        context, given.raw, given.text, file, left_out, save_to, _wish(params), lane
    )
    first = checked, needs, context.repairs + given.repairs + warnings, takes
    return await _variants(context, given, wanted, first, save_to, params, lane) if wanted else [first]


async def _variants(
    context: OperationContext,
    given: Given,
    wanted: Sequence[Combination],
    first: Made,
    save_to: str | None,
    params: SubmitParams,
    lane: str,
) -> list[Made]:
    """Each is checked by itself; `first` is that of the first combination. A file in UI format goes with the
    graph that it was made into only: in the pictures of the others it would restore other values."""
    graph, made, wish = first[0].graph, [first], _wish(params)
    text = (await as_json(graph.raw))[1]
    size, large = len(text), context.services.checker.is_large(text)
    if size * len(wanted) > BATCH_BYTES:
        raise LimitExceeded(
            f"{len(wanted)} workflows of {size} bytes are more than the {BATCH_BYTES} bytes of one submit.",
            next_step="Submit fewer at once.",
            code=ErrorCode.TOO_LARGE,
        )
    before: Mapping[str, Any] = graph.raw
    for values, step in wanted[1:]:
        await asyncio.sleep(0)  # each is checked at once where it is small: others have their turn between
        each, notes = await beside(large, _variant, graph, given, values, step)
        if step:
            await beside(large, require_other, each, before, given.seeds)
        before = each
        _, text, _ = await as_json(each)
        checked, needs, warnings, takes = await checked_graph(
            context, each, text, None, (), save_to, wish, lane
        )
        made.append((checked, needs, context.repairs + notes + warnings, takes))
    return made


def _variant(
    graph: Graph, given: Given, values: Mapping[str, Any], step: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    raw = with_seeds(graph.raw, given.seeds, step)
    return given.vary(parse_graph(raw), values) if given.vary and values else (raw, ())


async def submit_batch(
    services: Services, made: Sequence[tuple[Made, How]], idempotency: Idempotency | None
) -> SubmitResult:
    batch = BatchId(services.new_id())
    jobs = [(how.event(services, each, batch), each[0], each[1]) for each, how in made]
    ids = [event.job_id for event, _, _ in jobs]
    written = await as_written(services, ids, services.engines.submit_all(jobs, idempotency))
    first, position = written[0]
    batch, ids = first.batch or batch, [job.id for job, _ in written]
    if len(ids) < len(made):  # a repeat, of which the store says the first
        ids = [job.id for job in await jobs_of(services, batch)]
    return SubmitResult(
        workflow_id=batch,
        name=first.name,
        status="queued",
        queue_position=position or None,
        warnings=list(dict.fromkeys(text for job, _ in written for text in job.warnings)),
        **faults_of([each[0].report for each, _ in made]),
        workflow_ids=ids,
        next_step=f'Call wait_for_workflow(workflow_id="{batch}"): it stands for all {len(ids)}.',
    )


async def checked_graph(
    context: OperationContext,
    raw: object,
    text: bytes,
    file: Mapping[str, Any] | None,
    before: tuple[str, ...] = (),
    save_to: str | None = None,
    wish: Wish = NO_WISH,
    lane: str = LOCAL,
) -> Made:
    """The graph in API format, what it needs, and the warnings, those from `before` among them. `text` is
    `raw` as JSON. `file` is kept with the job.

    Raises InvalidGraph, LimitExceeded where the check takes too much, and Denied for partner nodes without
    the right to spend.
    """
    services, client = context.services, context.caller.client
    context.found.extend(before)
    large = services.checker.is_large(text)
    if lane == LOCAL:
        info, judged = await judged_by_engines(
            services, raw, text, wish, client=client, present=partial(doubted_files, context, large)
        )
    else:
        info, judged, unchecked = await judged_for_lane(services, raw, text, client=client)
        before += unchecked
    context.found.extend(judged.warnings)
    needs = judged.needs
    await beside(large, _require_own_files, context, judged.graph)
    files = await with_files(context, judged, info, needs, lane=lane, large=large)
    if files.graph is not None:
        before = judged.warnings + before
        _, text, _ = await as_json(files.graph)
        judged = await services.checker.judge(files.graph, text, info, client=client)
    before += files.warnings
    graph, report = judged.graph, judged.report.without_doubts(files.present)
    brings = FOLDER.encode() in text and bool(await beside(large, placed, graph.raw))
    partners = partner_nodes(graph, report.needed, info)
    warnings = report.warnings + judged.warnings + before + services.engines.submit_warnings(lane, wish)
    context.found.extend(warnings)
    warnings += spending(context, partners) if lane == LOCAL else priced(partners)
    may_spend = lane == LOCAL and Right.SPEND in context.caller.rights and (bool(partners) or info is None)
    kept = file is not None or may_spend or save_to is not None
    checked = Checked(
        graph=graph,
        report=report,
        submitted=Submitted(file=file, may_spend=may_spend, save_to=save_to) if kept else None,
        large=len(text) > large_json.LARGE_BYTES,
        by_engine=info is not None,
    )
    memory = await services.store.vram_need(needs.shape) if lane == LOCAL else None
    warnings += await memory_warnings(services, memory)
    if brings or memory is not None:
        needs = replace(needs, brings=brings, memory=memory)
    return checked, needs, warnings, files.takes


def _timeout_ms(services: Services, name: str, asked_s: float | None) -> int | None:
    """What was asked for, else the setting's; None: no limit. Raises InvalidInput beyond the upper limit."""
    if asked_s is None:
        asked_s = float(getattr(services.settings, name)) or None
    elif asked_s > MAX_TIMEOUT_S:
        raise InvalidInput(
            f"{name} is {asked_s:g}; the maximum is {MAX_TIMEOUT_S:g}.",
            next_step="Ask for less, or leave it out.",
        )
    return None if asked_s is None else max(1, round(asked_s * 1000))


def _require_own_files(context: OperationContext, graph: Graph) -> None:
    """Raises Denied for files of other clients, where clients are kept apart."""
    caller = context.caller
    if not context.services.settings.isolate_clients or caller.sees_all:
        return
    inputs = {node.id: node.inputs for node in graph.nodes.values()}
    found = next(foreign_files(inputs, caller.client), None)
    if found is not None:
        raise Denied(
            f"Node {found[0]}, input {found[1]!r} names an output or a file of another client.",
            next_step="Name an output as output:ID (see list_outputs), or upload the file (POST "
            "/v1/comfyui/inputs) and use the name in the answer, with its subfolder.",
        )


def _wish(params: SubmitParams) -> Wish:
    engine = None if params.engine is None else EngineId(params.engine)
    not_on = tuple(sorted(map(EngineId, params.not_on)))
    return Wish(engine=engine, labels=tuple(sorted(params.labels)), not_on=not_on)


def _submitted(params: SubmitParams, graph: object) -> list[object]:
    """What makes two submits the same."""
    # What came, not what was made of it: the conversion of a UI format may change with the engine's classes.
    graph = unwrapped(graph) if isinstance(graph, Mapping) else graph
    submitted: list[object] = [graph, params.priority, params.gpu]
    if (timeouts := [params.queue_timeout_s, params.run_timeout_s]) != [None, None]:
        submitted += timeouts
    if params.extra_data is not None:
        submitted.append(params.extra_data)
    if params.variations is not None or params.matrix is not None:
        submitted.append([params.variations, params.matrix])
    if params.after or params.after_any:
        submitted.append(["after", sorted(params.after), sorted(params.after_any)])
    if params.webhook is not None:
        submitted.append(["webhook", params.webhook.url, params.webhook.events])
    if params.tags:
        submitted.append(["tags", sorted(params.tags.items())])
    if wish := _wish(params):
        submitted.append(["wish", wish.engine, wish.labels, wish.not_on])
    return submitted


async def idempotency_of(
    context: OperationContext, key: str | None, submitted: Callable[[], list[object]], *, large: bool = False
) -> Idempotency | None:
    if key is None:
        return None
    return Idempotency(
        client=context.caller.client,
        key=key,
        digest=await beside(large, lambda: _digest(submitted(), large=large)),
        since=context.services.now_ms() - IDEMPOTENCY_TTL_S * 1000,
    )


def _digest(value: object, *, large: bool) -> str:
    text = large_json.sorted_text(value, large=large)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
