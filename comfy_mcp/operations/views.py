"""From the domain's values to the wire's shapes."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, assert_never

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.media_types import media_type_of
from comfy_mcp.domain.spending import MILLION
from comfy_mcp.domain.vram import WaitingFor
from comfy_mcp.operations.shapes import (
    AttemptItem,
    EngineRoomItem,
    FailureItem,
    OutputItem,
    WaitingForItem,
    WorkflowResult,
)

if TYPE_CHECKING:  # the surfaces use this module and must not load the database
    from comfy_mcp.store import AttemptView, JobView

OUTPUTS_SHOWN = 20
"""Outputs of one workflow in its brief state (operations/brief.py)."""

OUTPUT_PATH = "/v1/comfyui/output/"
OUTPUT_URI = "comfy://outputs/"
WORKFLOW_URI = "comfy://workflows/"


def result_of(view: "JobView", position: int | None) -> WorkflowResult:
    """A job as the wire shows it: the same object as long as the store gives the same view."""
    result: WorkflowResult | None = view.made.get(position)
    if result is None:
        result = view.made[position] = workflow_result(view.job, view.outputs, position)
    return result


def workflow_result(job: Job, outputs: Sequence[Output], position: int | None = None) -> WorkflowResult:
    """`position` is 1 for the next to run."""
    failure = job.failure
    return WorkflowResult(
        workflow_id=job.id,
        name=job.name,
        status=job.shown_status,
        queue_position=position if job.status is JobStatus.QUEUED else None,
        progress=round(job.progress * 100, 1),
        current_node=job.current_node_title or job.current_node,
        current_node_id=job.current_node,
        start_time=job.started_at,
        completion_time=job.finished_at,
        outputs=output_items(outputs),
        error=failure.message if failure else None,
        failure=FailureItem(
            kind=failure.kind.value,
            message=failure.message,
            node_id=failure.node_id,
            node_type=failure.node_type,
        )
        if failure
        else None,
        priority=job.priority.value,
        client=job.client,
        engine=job.engine,
        attempt=job.attempt,
        created_time=job.created_at,
        output_count=job.output_count,
        node_count=job.node_count,
        eta_ms=job.eta_ms,
        cancel_requested=job.cancel_requested,
        cancelled_by=job.cancelled_by,
        cancel_reason=job.cancel_reason,
        warnings=list(job.warnings),
        queue_deadline=job.queue_deadline if job.status is JobStatus.QUEUED else None,
        run_deadline=job.run_deadline,
        batch=job.batch,
        after=[parent.id for parent in job.after],
        retry_of=job.retry_of,
        retried_by=job.retried_by,
        gpu_seconds=job.gpu_seconds,
        cost=None if job.spend is None else job.spend.counted / MILLION,
        tags=dict(job.tags),
        peak_vram_bytes=job.peak_vram_bytes,
        waiting_for=_waiting_for(job),
        next_step=next_step(job, outputs),
    )


def _waiting_for(job: Job) -> WaitingForItem | None:
    if job.status is JobStatus.BLOCKED:
        return parents_item(job.after)
    return None if job.waiting_for is None else waiting_item(job.waiting_for)


def parents_item(after: Sequence[Parent]) -> WaitingForItem:
    named = ", ".join(parent.id[:SHOWN_OF_ID] for parent in after[:PARENTS_NAMED])
    more = f" and {len(after) - PARENTS_NAMED} more" if len(after) > PARENTS_NAMED else ""
    return WaitingForItem(reason="parent", message=f"Waits for the end of {named}{more}.")


PARENTS_NAMED = 5
"""Ids that the sentence about a job that waits for others names, each with as much as operations take."""

SHOWN_OF_ID = 8


def waiting_item(waiting: WaitingFor) -> WaitingForItem:
    return WaitingForItem(
        reason=waiting.reason.value,
        message=waiting.sentence,
        since=waiting.since,
        need_bytes=waiting.need_bytes,
        free_bytes=waiting.free_bytes,
        engines=[
            EngineRoomItem(engine=each.engine, free_bytes=each.room_bytes, total_bytes=each.total_bytes)
            for each in waiting.engines
        ],
    )


def next_step(job: Job, outputs: Sequence[Output]) -> str | None:
    """What an agent does next, in one sentence."""
    if job.retried_by is not None:
        return f'Retried: call workflow_status(workflow_id="{job.retried_by}").'
    match job.status:
        case JobStatus.BLOCKED | JobStatus.QUEUED | JobStatus.RUNNING:
            return f'Call wait_for_workflow(workflow_id="{job.id}").'
        case JobStatus.COMPLETED if outputs:
            look = _look(job, [each for each in outputs if can_be_shown(each.file)])
            count = max(job.output_count, len(outputs))
            rest = f' Call list_outputs(workflow_id="{job.id}") for all {count}.'
            return f"{look}{rest}".strip() if count > OUTPUTS_SHOWN else look or None
        case JobStatus.FAILED if job.failure is not None:
            return _after_failure(job, job.failure.kind)
        case _:
            return None


def _look(job: Job, shown: Sequence[Output]) -> str:
    """How to see those that a picture can be made of."""
    if not shown:
        return ""
    if len(shown) == 1:
        return f'Call view_output(output_id="{shown[0].id}") to look at it.'
    return f'Call view_output(output_id="{job.id}") to look at all of them on one sheet.'


def can_be_shown(file: OutputFile) -> bool:
    """Whether view_output makes something to look at of it."""
    return file.kind is OutputKind.TEXT or has_picture(file.kind, file.filename)


def has_picture(kind: str, filename: str) -> bool:
    """Whether that is a picture: it, a sheet of frames, or a waveform."""
    if kind == OutputKind.IMAGE or filename.lower().endswith(".wav"):
        return True
    return kind in {OutputKind.VIDEO, OutputKind.AUDIO} and _decodes()


@cache
def _decodes() -> bool:
    """Whether the optional package for videos and sounds is installed (library/moving.py)."""
    return find_spec("av") is not None


def _after_failure(job: Job, kind: FailureKind) -> str:
    retry = f'call retry_workflow(workflow_id="{job.id}")'
    match kind:
        case FailureKind.VALIDATION | FailureKind.NODE_ERROR | FailureKind.INTERNAL:
            return "Correct the workflow and submit it again."
        case FailureKind.MISSING_MODEL:
            return f"Install the model and {retry}, or submit with a name from list_models."
        case FailureKind.MISSING_INPUT:
            return f"Submit it again with the file itself, or {retry} once the engine can get it."
        case FailureKind.OOM:
            return f"Submit a smaller one (size, batch, model), or free GPU memory and {retry}."
        case FailureKind.PARENT_FAILED:
            return f"Retry the workflow that it waited for, then {retry}."
        case FailureKind.TIMEOUT:
            return f"Submit it with a longer timeout, or {retry}."
        case FailureKind.ENGINE_LOST | FailureKind.ENGINE_BAD_ANSWER | FailureKind.CANCELLED_EXTERNALLY:
            return f"To run it again, {retry}."
        case _:
            assert_never(kind)


def attempt_item(attempt: "AttemptView") -> AttemptItem:
    return AttemptItem.model_validate(
        {
            "workflow_id": attempt.job_id,
            "attempt": attempt.attempt,
            "engine": attempt.engine,
            "prompt_id": attempt.prompt_id,
            "claimed_time": attempt.claimed_at,
            "end_time": attempt.finished_at,
            "outcome": attempt.outcome,
            "reason": attempt.reason,
        }
    )


TEXT_CHARS = 16_384
"""Of a text output in a list, a state or a preview; the output itself has the whole."""

TEXTS_CHARS = 2**20
"""Of all texts of one list together."""


def output_items(outputs: Sequence[Output]) -> list[OutputItem]:
    texts = sum(output.file.text is not None for output in outputs)
    limit = min(TEXT_CHARS, TEXTS_CHARS // max(1, texts))
    return [output_item(output, chars=limit) for output in outputs]


def output_item(output: Output, *, chars: int = TEXT_CHARS) -> OutputItem:
    """A text longer than `chars` is cut."""
    file = output.file
    return OutputItem(
        output_id=output.id,
        filename=file.filename,
        workflow_id=output.job_id,
        type=file.kind.value,
        size=output.size,
        created_at=output.created_at,
        url=f"{OUTPUT_PATH}{output.id}",
        uri=f"{OUTPUT_URI}{output.id}",
        subfolder=file.subfolder,
        folder=file.folder_type,
        node_id=file.node,
        media_type=media_type(output),
        content=file.text if file.text is None or len(file.text) <= chars else f"{file.text[: chars - 1]}…",
    )


def media_type(output: Output) -> str:
    """By the file's suffix, since nobody has looked into the file yet."""
    return "text/plain" if output.file.text is not None else media_type_of(output.file.filename)
