"""The job commands: submit, wait for the end, save the outputs, cancel."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_mcp.cli.exits import ExitCode, exit_code_of_status
from comfy_mcp.cli.given import given
from comfy_mcp.cli.output import IN_COMMANDS, Output, in_commands
from comfy_mcp.cli.progress import ProgressDisplay, progress_display
from comfy_mcp.cli.saving import prepare_place, save_items
from comfy_mcp.cli.session import Session, open_session
from comfy_mcp.cli.show import status_lines
from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.operations.shapes import (
    MINE,
    CancelResult,
    GraphResult,
    PriorityResult,
    SubmitResult,
    SystemResult,
    WorkflowResult,
    WorkflowsResult,
)
from comfy_mcp.operations.shapes.params import WAIT_MAX_S
from comfy_mcp.settings import Settings

ADD_ONE = "Add one: `comfy-bridge engines add NAME URL`. Or queue it for later with `comfy-bridge submit`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How to wait. `timeout_s` None: until the end."""

    save_to: Path | None = None
    timeout_s: float | None = None
    cancel_on_interrupt: bool = False
    quiet: bool = False


async def run(
    settings: Settings,
    output: Output,
    *,
    file: str,
    asked: Mapping[str, Any],
    how: Following,
) -> ExitCode:
    """Submit and follow to the end, driving the engine if nobody else does."""
    if how.save_to is not None:
        prepare_place(how.save_to)
    with given(file, asked) as (asked, content):
        async with open_session(settings, drive=True) as session:
            await _need_an_engine(session)
            submitted: SubmitResult = await session.call("submit_workflow", asked, content=content)
            output.note(f"workflow {submitted.workflow_id}")
            output.warn(submitted.warnings)
            return await _follow(session, output, submitted.workflow_id, how)


async def submit(settings: Settings, output: Output, *, file: str, asked: Mapping[str, Any]) -> ExitCode:
    """Store the job and return. Warn if no process drives an engine."""
    with given(file, asked) as (asked, content):
        return await _queue(settings, output, "submit_workflow", asked, content)


async def retry(settings: Settings, output: Output, *, workflow_id: str) -> ExitCode:
    """The same again as a new job."""
    return await _queue(settings, output, "retry_workflow", {"workflow_id": workflow_id})


async def prioritize(settings: Settings, output: Output, *, workflow_id: str, priority: str) -> ExitCode:
    arguments = {"workflow_id": workflow_id, "priority": priority}
    async with open_session(settings, drive=False) as session:
        changed: PriorityResult = await session.call("prioritize_workflow", arguments)
    output.answer(changed, [in_commands(changed.text())])
    return ExitCode.OK


async def status(settings: Settings, output: Output, *, arguments: Mapping[str, Any]) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        state: WorkflowResult = await session.call("workflow_status", arguments)
    output.result(state.model_dump(mode="json", context=IN_COMMANDS), status_lines(state))
    return ExitCode.OK


async def graph(settings: Settings, output: Output, *, workflow_id: str, api: bool) -> ExitCode:
    """What was submitted; with `api` the graph as the engine gets it."""
    async with open_session(settings, drive=False) as session:
        found: GraphResult = await session.call("workflow_graph", {"workflow_id": workflow_id})
    shown = found.graph if api or found.file is None else found.file
    output.answer(found, json.dumps(shown, indent=2).splitlines())
    return ExitCode.OK


async def wait(settings: Settings, output: Output, *, workflow_id: str, how: Following) -> ExitCode:
    """Follow a job to its end, driving the engine if nobody else does."""
    if how.save_to is not None:
        prepare_place(how.save_to)
    async with open_session(settings, drive=True) as session:
        return await _follow(session, output, workflow_id, how)


async def cancel(settings: Settings, output: Output, *, workflow_id: str, reason: str | None) -> ExitCode:
    """Cancel, and report the state. "mine" is all of the caller's."""
    arguments = {"workflow_id": workflow_id, "reason": reason}
    async with open_session(settings, drive=False) as session:
        needs_driver = await _nobody_would_cancel(session, workflow_id)
        if not needs_driver:
            return _cancelled(output, await session.call("cancel_workflow", arguments))
    async with open_session(settings, drive=True) as session:
        return _cancelled(output, await session.call("cancel_workflow", arguments))


async def abandon(settings: Settings, output: Output, *, workflow_id: str) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        state: WorkflowResult = await session.call("abandon_workflow", {"workflow_id": workflow_id})
    output.answer(state, [f"{state.workflow_id}: {state.status}"])
    return ExitCode.OK


async def _queue(
    settings: Settings,
    output: Output,
    operation: str,
    arguments: Mapping[str, Any],
    content: AsyncIterable[bytes] | None = None,
) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        submitted: SubmitResult = await session.call(operation, arguments, content=content)
        system: SystemResult = await session.call("system_status", {})
    driven = any(engine.driven_by for engine in system.engines)
    waits = f"No process drives the engine now: `comfy-bridge wait {submitted.workflow_id}` runs it."
    output.warn(submitted.warnings)
    if not driven:
        output.note(f"note: {waits}")
    next_step = f"Run `comfy-bridge wait {submitted.workflow_id}`." if driven else waits
    document = submitted.model_dump(mode="json", context=IN_COMMANDS) | {
        "nextStep": next_step,
        "driven": driven,
    }
    output.result(document, [submitted.workflow_id])
    return ExitCode.OK


async def _need_an_engine(session: Session) -> None:
    """Raise if no engine answers: `run` should fail at once instead of waiting for one."""
    system: SystemResult = await session.call("system_status", {})
    if not any(engine.up for engine in system.engines):
        named = ", ".join(engine.url for engine in system.engines)
        if not named:
            raise EngineUnreachable("There is no engine.", next_step=ADD_ONE)
        raise EngineUnreachable(
            f"No engine answers at {named}.",
            next_step="Start ComfyUI (or `comfy-bridge engine`) there, set its URL (COMFYUI_URL, or `url` in "
            "the file of engines) to where it runs, or queue it for later with `comfy-bridge submit`.",
        )


async def _nobody_would_cancel(session: Session, workflow_id: str) -> bool:
    """An engine has a job, and no process that could stop it there: this one must."""
    if workflow_id == MINE:
        mine: WorkflowsResult = await session.call("list_workflows", {"mine": True, "status": "running"})
        states: Sequence[WorkflowResult] = mine.workflows
    else:
        states = [await session.call("workflow_status", {"workflow_id": workflow_id})]
    engines = {state.engine for state in states if state.status in {"queued", "running"}} - {None}
    if not engines:
        return False
    system: SystemResult = await session.call("system_status", {})
    return not any(engine.driven_by for engine in system.engines if engine.id in engines)


def _cancelled(output: Output, result: CancelResult) -> ExitCode:
    output.answer(result, [f"{result.workflow_id or 'all of yours'}: {_said_of(result)}"])
    return ExitCode.OK


def _said_of(result: CancelResult) -> str:
    if result.cancelled is not None:
        slow = f", {result.stopping} still stop at their next node or step" if result.stopping else ""
        return f"{result.cancelled} cancelled{slow}"
    pending = result.status != "cancelled"
    return "cancel requested; the workflow stops at its next node or step" if pending else "cancelled"


async def _follow(session: Session, output: Output, workflow_id: str, how: Following) -> ExitCode:
    display = ProgressDisplay() if how.quiet else progress_display()
    try:
        state = await _until_final(session, workflow_id, how.timeout_s, display)
    finally:
        display.close()
    if state is None:
        return await _interrupted(session, output, workflow_id, cancel=how.cancel_on_interrupt)
    saved = await save_items(session, state.outputs, how.save_to) if how.save_to is not None else None
    _show_end(output, state, saved)
    return exit_code_of_status(state.status)


async def _until_final(
    session: Session, workflow_id: str, timeout_s: float | None, display: ProgressDisplay
) -> WorkflowResult | None:
    """The last state, not final if the time is up; None when the user pressed Ctrl-C."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout_s is None else loop.time() + timeout_s

    async def show(state: WorkflowResult) -> None:
        display.show(state)

    async def follow() -> WorkflowResult:
        while True:
            left = WAIT_MAX_S if deadline is None else min(WAIT_MAX_S, max(0.0, deadline - loop.time()))
            state: WorkflowResult = await session.call(
                "wait_for_workflow", {"workflow_id": workflow_id, "timeout_s": left}, on_progress=show
            )
            over = deadline is not None and loop.time() >= deadline
            if state.status not in {"queued", "running"} or over:
                return state

    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        with _on_interrupt(task):
            await asyncio.wait([task])
    return None if task.cancelled() else task.result()


@contextlib.contextmanager
def _on_interrupt(task: "asyncio.Task[Any]") -> Iterator[None]:
    """Ctrl-C and SIGTERM cancel `task` and nothing else; a second one, later, ends the process."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C then ends the process, the job goes on
        for number in numbers:
            loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in numbers:
                loop.remove_signal_handler(number)


async def _interrupted(session: Session, output: Output, workflow_id: str, *, cancel: bool) -> ExitCode:
    if cancel:
        result: CancelResult = await session.call(
            "cancel_workflow", {"workflow_id": workflow_id, "reason": "interrupted on the command line"}
        )
        _cancelled(output, result)
        return ExitCode.JOB_CANCELLED if result.status == "cancelled" else ExitCode.INTERRUPTED
    state: WorkflowResult = await session.call("workflow_status", {"workflow_id": workflow_id})
    output.note(f"interrupted; the workflow continues: comfy-bridge wait {workflow_id}")
    output.result(state.model_dump(mode="json", context=IN_COMMANDS), ())
    return ExitCode.INTERRUPTED


def _show_end(output: Output, state: WorkflowResult, saved: Sequence[Path] | None) -> None:
    document = state.model_dump(mode="json", context=IN_COMMANDS)
    if saved is not None:
        document["saved"] = [str(path) for path in saved]
    failure = state.failure
    match state.status:
        case "completed":
            pass
        case "failed":
            output.note(f"failed: {failure.text() if failure else state.error}")
        case "cancelled":
            output.note("cancelled")
        case _:
            output.note(f"still {state.status}; it continues: comfy-bridge wait {state.workflow_id}")
    lines = [str(path) for path in saved] if saved is not None else [item.text() for item in state.outputs]
    output.result(document, lines)
