"""The files that a workflow names, brought within reach of the job: the one place where they are resolved.

A caller writes a path, a URL, an earlier output, a `data:` URI or a name that the engine knows. The graph
that is kept names what the bridge keeps (domain/file_inputs.py).
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind, OutputQuery, lasting
from comfy_mcp.domain.errors import (
    BridgeError,
    ErrorCode,
    InvalidGraph,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from comfy_mcp.domain.file_inputs import (
    FOLDER,
    FileInput,
    Reference,
    Source,
    file_inputs,
    kept_name,
    made_name,
    output_name,
    reference,
    with_inputs,
)
from comfy_mcp.domain.ids import CLOUDS, LOCAL, BatchId, EngineId, JobId, NodeId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.judging import Judged
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.shown import shown
from comfy_mcp.operations.batches import jobs_of
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.catalog import find_output
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.file_faults import MAX_FILES, carrying_others, fault_at, of_all, too_many
from comfy_mcp.operations.ids import whole_id

log = structlog.get_logger(__name__)

MAX_RETRIES = 100
"""Retries of one job that are looked through for the newest."""


@dataclass(slots=True)
class _Said:
    """What came out on the way; `present` are values of which an engine has the file. See Files.
    `able`: the engines that may run the workflow. `faults`: files that can't be found or used."""

    able: frozenset[EngineId]
    warnings: list[str] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    takes: dict[JobId, int] = field(default_factory=dict)
    faults: list[InvalidGraph | NotFound] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """`graph` names each file as it is kept; None: as it was. `present`: inputs whose file an engine has,
    though its list may lack it. `takes`: by job that has not ended, how many outputs it has to make."""

    graph: dict[str, object] | None
    present: frozenset[tuple[NodeId, str]]
    warnings: tuple[str, ...]
    takes: Mapping[JobId, int]


NO_FILES = Files(graph=None, present=frozenset(), warnings=(), takes={})


async def with_files(
    context: OperationContext,
    judged: Judged,
    info: ObjectInfo | None,
    needs: Needs,
    *,
    lane: str = LOCAL,
    large: bool,
) -> Files:
    """Each file that a caller named in its own words, found.

    A file that only some of the engines have is copied from one of those, so that each of them can run the
    workflow: these are the engines that meet `needs`. A service (`lane`) has none of them.

    Raises InvalidInput, NotFound, LimitExceeded, which say the node, the input and the right spellings.
    """
    inputs = await beside(large, lambda: tuple(file_inputs(judged.graph, info)))
    if not inputs:
        return NO_FILES
    values: dict[tuple[NodeId, str], str] = {}
    known: dict[tuple[str, frozenset[str]], str] = {}
    away = lane != LOCAL
    said = _Said(able=frozenset({EngineId(lane)}) if away else _able(context, needs))
    elsewhere = await _lists_of_others(context, said.able, info)
    settled: set[tuple[NodeId, str]] = set()
    with carrying_others(judged.report, settled):
        for found in inputs:
            wanted = found.node in judged.report.needed or found.value.startswith(f"{FOLDER}/")
            if not wanted or (found.listed and not away and all(_lists(each, found) for each in elsewhere)):
                continue
            key = found.value, found.media
            if key not in known:
                if len(known) >= MAX_FILES:
                    raise too_many()
                known[key] = await _named(context, found, said, engine_answers=info is not None)
            if known[key] != found.value:
                values[found.node, found.name] = known[key]
            if known[key] != found.value or found.value in said.present:
                settled.add((found.node, found.name))
        if said.faults:
            raise of_all(said.faults)
    return Files(
        graph=with_inputs(judged.graph.raw, values) if values else None,
        present=frozenset(settled - values.keys()),
        warnings=tuple(said.warnings),
        takes=dict(said.takes),
    )


async def doubted_files(
    context: OperationContext, large: bool, info: ObjectInfo | None, judged: Judged
) -> frozenset[tuple[NodeId, str]]:
    """The inputs whose files no list has and that are there all the same. `large`: its graph is."""
    doubted = {(each.node_id, each.input_name) for each in judged.report.doubts}
    said, found = _Said(able=frozenset()), set[tuple[NodeId, str]]()
    for each in await beside(large, lambda: tuple(file_inputs(judged.graph, info))):
        if (each.node, each.name) in doubted:
            with suppress(BridgeError):
                now = await _resolved(context, each, said, engine_answers=info is not None)
                if now != each.value or each.value in said.present:
                    found.add((each.node, each.name))
    return frozenset(found)


async def is_missing(context: OperationContext, found: FileInput) -> bool:
    """Whether nobody has the file of this name."""
    try:
        await _resolved(context, found, _Said(able=frozenset()), engine_answers=True)
    except InvalidInput:
        return True
    return False


async def _named(context: OperationContext, found: FileInput, said: _Said, *, engine_answers: bool) -> str:
    """What the graph says from now on; as it was where the file can't be found, which is a fault."""
    try:
        return await _resolved(context, found, said, engine_answers=engine_answers)
    except (InvalidInput, NotFound, LimitExceeded) as error:
        fault = fault_at(found, error)
        if isinstance(fault, LimitExceeded):
            raise fault from None
        said.faults.append(fault)
        return found.value


async def _resolved(context: OperationContext, found: FileInput, said: _Said, *, engine_answers: bool) -> str:
    files, wanted = context.services.input_files, reference(found.value)
    match wanted.source:
        case Source.KEPT:
            return await _kept(context, wanted.text)
        case Source.OUTPUT:
            return await _output_or_job(context, wanted, found, said)
        case Source.MADE:
            return await _made(context, JobId(wanted.text), wanted.index, found, said)
        case Source.URL:
            return kept_name(await files.keep_url(wanted.text, found.media, context.caller.share))
        case Source.DATA:
            return kept_name(await files.keep_data(wanted.text, found.media, context.caller.share))
        case Source.PATH:
            return await _path(context, wanted.text, found)
        case Source.NAME if wanted.text:
            return await _name(context, wanted, found, said, engine_answers=engine_answers)
        case Source.UNKNOWN:
            raise _unknown(context, found)
        case _:
            return found.value


async def _kept(context: OperationContext, name: str) -> str:
    if await context.services.input_files.is_kept(name):
        return kept_name(name)
    raise NotFound(
        "the copy of the input file is no longer kept.",
        next_step=f"Give the file itself: {spellings(context)}.",
        code=ErrorCode.OUTPUT_GONE,
    )


async def _path(context: OperationContext, path: str, found: FileInput) -> str:
    if not context.caller.may_read_files:
        raise InvalidInput(
            f"this surface reads no paths ({shown(path)}).",
            next_step=f"Give the file in another way: {spellings(context)}.",
            code=ErrorCode.PATH_NOT_ALLOWED,
        )
    return kept_name(await context.services.input_files.keep_path(path, found.media, context.caller.share))


async def _name(
    context: OperationContext,
    wanted: Reference,
    found: FileInput,
    said: _Said,
    *,
    engine_answers: bool,
) -> str:
    """A name without a place: of the engine's, else of a file in the allowed folders, else of an output."""
    folder, _, name = wanted.text.replace("\\", "/").rpartition("/")
    file = OutputFile(kind=OutputKind.FILE, filename=name, subfolder=folder, folder_type=wanted.folder)
    holders = await context.services.engines.holders(file) if engine_answers else {}
    if any(holders.values()):
        copied = await _copied(context, file, holders, found, said.able)
        if copied is None and not said.able.isdisjoint(CLOUDS):
            raise _unknown(context, found)
        if copied is None:
            said.present.add(found.value)
        return copied or found.value
    there = False if holders and None not in holders.values() else None
    paths = context.caller.may_read_files and wanted.folder == "input"
    if paths and await context.services.input_files.has_path(wanted.text):
        return await _path(context, wanted.text, found)
    if (output := await _output_named(context, wanted.text, found, said)) is not None:
        return output
    if there is None:
        return found.value
    raise _unknown(context, found)


async def _output_named(context: OperationContext, text: str, found: FileInput, said: _Said) -> str | None:
    """The newest output whose file has this name; None: there is none, or without a folder several."""
    folder, _, name = text.replace("\\", "/").rpartition("/")
    caller = context.caller
    outputs = await context.services.store.list_outputs(
        OutputQuery(filename=name, client=None if caller.sees_all else caller.client, limit=20)
    )
    exact = [each for each in outputs.items if each.file.subfolder.replace("\\", "/") == folder]
    some = exact or (outputs.items if not folder and len(outputs.items) == 1 else ())
    if not some:
        return None
    said.warnings.append(f"{found.where}: {found.value!r} was read as output:{some[0].id}.")
    return _output(some[0], found)


async def _copied(
    context: OperationContext,
    file: OutputFile,
    holders: Mapping[EngineId, bool | None],
    found: FileInput,
    able: frozenset[EngineId],
) -> str | None:
    """The file, kept, if an engine that may run the workflow does not have it. None: each has it, or it can't
    be copied; then the engines that lack it refuse the workflow, and one that has it runs it."""
    if all(holders.get(engine) for engine in able):
        return None
    services, holder = context.services, next(engine for engine, has in holders.items() if has)
    try:
        served, share = services.engines.pool[holder].view(file), context.caller.share
        return kept_name(
            await services.input_files.keep_served(served, file.filename or "", found.media, share)
        )
    except BridgeError as error:
        log.warning("input_not_copied", engine=holder, error=error.message)
        return None


def _able(context: OperationContext, needs: Needs) -> frozenset[EngineId]:
    """The engines that may run it, as far as is known."""
    return frozenset(
        engine for engine, each in context.services.engines.equipment().items() if needs.met_by(each)
    )


async def _lists_of_others(
    context: OperationContext, able: frozenset[EngineId], info: ObjectInfo | None
) -> list[ObjectInfo]:
    if len(able) < 2:
        return []
    lists = await context.services.engines.node_lists()
    return [known for engine, known in lists.items() if engine in able and known is not info]


def _lists(info: ObjectInfo, found: FileInput) -> bool:
    """Whether an engine with this node list has the file, too."""
    known = info.classes.get(found.class_type)
    spec = None if known is None else known.inputs.get(found.name)
    return spec is None or spec.lists(found.value)


def _output(output: Output, found: FileInput) -> str:
    kind = output.file.kind.value
    if found.media and kind in {"image", "video", "audio", "text"} and kind not in found.media:
        raise InvalidInput(
            f"output:{output.id} is {kind}; the input reads {' or '.join(sorted(found.media))}.",
            next_step="Choose another output from list_outputs.",
        )
    return output_name(output.id)


async def _output_or_job(context: OperationContext, wanted: Reference, found: FileInput, said: _Said) -> str:
    """The id may be that of a job, whose output is meant; or a file's name stands in its place."""
    try:
        output = await find_output(context, await whole_id(context, "output_id", wanted.text))
    except NotFound:
        job_id = JobId(await whole_id(context, "workflow_id", wanted.text))
        job = await context.services.store.get_job(job_id)
        if job is not None and context.caller.may_see(job.client):
            return await _made(context, job.id, wanted.index, found, said)
        await _require_no_batch(context, BatchId(job_id))
        if (named := await _output_named(context, wanted.text, found, said)) is not None:
            return named
        raise
    return _output(output, found)


async def _require_no_batch(context: OperationContext, batch: BatchId) -> None:
    """Raises InvalidInput for the id of a batch: which of its outputs is meant?"""
    jobs = [job.id for job in await jobs_of(context.services, batch) if context.caller.may_see(job.client)]
    if jobs:
        raise InvalidInput(
            f"{batch} is a batch of {len(jobs)} workflows.",
            next_step=f"Name one of them: {', '.join(f'output:{each}' for each in jobs[:4])}"
            f"{' …' if len(jobs) > 4 else ''}.",
        )


async def _made(context: OperationContext, job_id: JobId, index: int, found: FileInput, said: _Said) -> str:
    """What a job has made, or is going to make."""
    job = await newest_try(context, job_id)
    if job is None:
        await _require_no_batch(context, BatchId(job_id))
        raise NotFound(
            f"Workflow {job_id} not found.",
            next_step="Call list_workflows for existing ids.",
            code=ErrorCode.NOT_FOUND,
        )
    if not job.is_final:
        said.takes[job.id] = max(said.takes.get(job.id, 0), index + 1)
        return made_name(job.id, index)
    made = lasting(await context.services.store.outputs_of(job.id))
    if index >= len(made):
        raise InvalidInput(
            f"workflow {job.id} is {job.shown_status} and made {len(made)} output(s); there is no number "
            f"{index + 1}.",
            next_step="Call list_outputs for outputs that exist; index counts from 0.",
        )
    return _output(made[index], found)


async def newest_try(context: OperationContext, job_id: JobId) -> Job | None:
    """The job, or the newest of its retries if it did not complete. None: the caller sees no such job."""
    job = None
    for _ in range(MAX_RETRIES):
        known = await context.services.store.get_job(job_id)
        if known is None or not context.caller.may_see(known.client):
            return job
        job = known
        if job.retried_by is None or job.status is JobStatus.COMPLETED:
            return job
        job_id = job.retried_by
    return job


def _unknown(context: OperationContext, found: FileInput) -> InvalidInput:
    listed = [str(option) for option in found.options[:5]]
    has = f" It has {', '.join(listed)}{' …' if len(found.options) > 5 else ''}." if listed else ""
    return InvalidInput(
        f"there is no file {shown(found.value)} in the engine's input folder.{has}",
        next_step=f"Give {spellings(context)}.",
        code=ErrorCode.GRAPH_INVALID,
    )


def spellings(context: OperationContext) -> str:
    """How a file is named here, in one sentence."""
    others = "a URL (https://…), an earlier output (output:ID, see list_outputs), or a data: URI"
    if context.caller.may_read_files:
        return f"a path in {context.services.input_files.folders}, {others}"
    how = upload_command(context)
    if how is None:
        return f"the name that an upload to POST /v1/comfyui/inputs returned, {others}"
    return f"the name that an upload returned ({how}), {others}"


def upload_command(context: OperationContext) -> str | None:
    """How a caller that has no key at hand sends a file. None: it can't."""
    caller = context.caller
    if caller.upload_url is None or Right.SUBMIT not in caller.rights:
        return None
    return f'curl -F image=@FILE "{caller.upload_url()}", good once, for 15 minutes'
