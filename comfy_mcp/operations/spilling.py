"""`gpu: "auto"`: on the engines, or on a service where these would take too long and the budget allows it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import BridgeError, ErrorCode, LimitExceeded, StoreFault
from comfy_mcp.domain.file_inputs import placed
from comfy_mcp.domain.ids import LOCAL, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import NO_WISH, Needs
from comfy_mcp.domain.partner_nodes import partner_nodes
from comfy_mcp.domain.time_left import wait_behind
from comfy_mcp.driving.checked import Checked
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import about
from comfy_mcp.operations.waiting import LOOKED_THROUGH

T = TypeVar("T")

Made = tuple[Checked, Needs, tuple[str, ...], Mapping[JobId, int]]
"""Of a workflow: the graph in API format, what it needs, the warnings, and how many outputs it takes of which
jobs that have not ended."""

FOR_EVER = float("inf")


async def here_or_there(
    context: OperationContext,
    job: Job,
    made: Sequence[Made],
    make: Callable[[str], Awaitable[Sequence[Made]]],
    write: Callable[[Sequence[Made], str], Awaitable[T]],
) -> T:
    """Write what was `made` for the engines, or what `make` makes of it for a service. `job` is the first as
    it would wait here. Whatever keeps it from the service is a warning of the job, and no error."""
    lane, said = await _lane_for(context, job, made[0])
    if lane != LOCAL:
        try:
            there = await make(lane)
            await _require_small_files(context.services, lane, there)
            return await write(_noting(there, said), lane)
        except StoreFault:
            raise
        except BridgeError as error:
            said = _stays(f"{lane} can't have it. {error.sentence}")
    return await write(_noting(made, said), LOCAL)


async def expected_wait_ms(services: Services, job: Job) -> float | None:
    """How long it would wait here if it came now: what is ahead of it, shared among the engines that take
    jobs. None: not known."""
    engines, store = services.engines, services.store
    if not (able := engines.able):
        return FOR_EVER
    ahead = await store.ahead_of(job, fair=services.settings.fair_share)
    queue, now = await store.queue(LOOKED_THROUGH), services.now_ms()
    running = [each for each in queue.running if each.lane == LOCAL]
    queued = [each for each in queue.queued if each.lane == LOCAL][:ahead]
    unseen = ahead - len(queued) + engines.foreign_ahead()
    if len(running) + len(queued) + unseen < able:
        return 0.0
    return wait_behind([*running, *queued], now, engines.pace_ms, unseen=unseen, engines=able)


async def _lane_for(context: OperationContext, job: Job, made: Made) -> tuple[str, str]:
    """The lane, and what the submitter should know of that; "": nothing."""
    services = context.services
    if (why := _never(context, job, made[1])) is not None:
        return LOCAL, _stays(why)
    wait_ms = await expected_wait_ms(services, job)
    if wait_ms is None:
        return LOCAL, _stays("how long it waits is not known yet.")
    if wait_ms <= services.settings.spill_wait_s * 1000:
        return LOCAL, ""
    said = []
    for lane in services.engines.lanes.names:
        if (why := await _unfit(services, lane, job, made[0])) is None:
            return lane, f"gpu='auto' sends it to {lane}: {_waits(wait_ms)}"
        said.append(why)
    return LOCAL, _stays(" ".join(said))


def _never(context: OperationContext, job: Job, needs: Needs) -> str | None:
    """Why no service is considered at all."""
    services = context.services
    if not services.engines.lanes.names:
        return "no service is configured."
    if services.settings.cloud_budget is None:
        return "there is no budget for services (COMFY_BRIDGE_CLOUD_BUDGET)."
    if Right.SPEND not in context.caller.rights:
        return f"a service may cost money, and your key lacks the right {Right.SPEND.value!r}."
    if needs.wish != NO_WISH:
        return "it asks for an engine."
    return "it waits for other workflows." if job.after else None


async def _unfit(services: Services, lane: str, job: Job, checked: Checked) -> str | None:
    """Why the lane can't have it, as far as is known; None: it can."""
    if (trouble := services.engines.lanes.trouble(lane)) is not None:
        return trouble
    lists, _ = await services.engines.last_lists()
    if partner_nodes(checked.graph, checked.report.needed, lists.all):
        return f"its partner nodes cost more than their time at {lane}."
    if job.shape is None or not await services.store.has_run(lane, job.shape):
        return (
            f"the last workflow with these nodes and models did not complete on {lane}, or there was none. "
            f"Submit one with gpu={lane!r} to find out."
        )
    return None


async def _require_small_files(services: Services, lane: str, made: Sequence[Made]) -> None:
    """Raises LimitExceeded where an input file is larger than what the lane takes, or may be."""
    if (limit := services.engines.lanes.largest_input(lane)) is None:
        return
    for name in sorted({name for checked, *_ in made for name in placed(checked.graph.raw)}):
        size = (await services.input_files.locate(name)).size
        if size is None or size > limit:
            raise LimitExceeded(
                f"An input file may be larger than the {limit} bytes that {lane} takes.",
                next_step="Use a smaller one.",
                code=ErrorCode.TOO_LARGE,
            )


def _waits(wait_ms: float) -> str:
    if wait_ms == FOR_EVER:
        return "no engine here takes workflows now."
    return f"here it would wait {about(round(wait_ms))}."


def _stays(why: str) -> str:
    return f"gpu='auto' keeps it on the engines here: {why}"


def _noting(made: Sequence[Made], said: str) -> Sequence[Made]:
    if not said:
        return made
    return [(checked, needs, (*warnings, said), takes) for checked, needs, warnings, takes in made]
