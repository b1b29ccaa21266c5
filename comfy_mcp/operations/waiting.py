"""Why a queued workflow waits for its turn: what is ahead of it, and when it may start."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.quotas import ClientUse
from comfy_mcp.domain.time_left import in_range, wait_behind
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import QuotaItem, WaitingForItem, WorkflowResult, about

if TYPE_CHECKING:  # the surfaces use this module and must not load the database
    from comfy_mcp.store import QueueView

LOOKED_THROUGH = 200
"""Queued workflows of which it is known what is ahead of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The queue as it is now. `pace_ms`: how long a workflow takes, None where nobody knows. `use`: what
    clients have and may have."""

    queue: "QueueView"
    client: ClientId
    now: int
    pace_ms: Callable[[Job], float | None]
    use: Mapping[ClientId, ClientUse] = field(default_factory=dict)

    def why(self, job: Job, foreign: int) -> WaitingForItem | None:
        """`foreign`: prompts of people that run before it. None: nothing is known to be ahead of it."""
        use = self.use.get(job.client)
        if use is not None and not job.is_claimed and (message := use.waits_because) is not None:
            start_ms = use.goes_on_in_ms(self.now)
            return WaitingForItem(reason="quota", message=message, start_ms=start_ms)
        places = [each.id for each in self.queue.queued]
        if job.id not in places:
            return None
        queued = self.queue.queued[: places.index(job.id)]
        before = [each for each in (*self.queue.running, *queued) if _shares_engine(each, job)]
        if not before and not foreign:
            return None
        yours = sum(each.client == self.client for each in before)
        engines = {each.engine for each in before if each.engine is not None}
        wait_ms = wait_behind(before, self.now, self.pace_ms, unseen=foreign, engines=max(1, len(engines)))
        start = None if wait_ms is None else round(wait_ms)
        counts = {"yours": yours, "others": len(before) - yours, "foreign": foreign}
        return WaitingForItem(
            reason="turn", message=_sentence(**counts, start_ms=start), start_ms=start, **counts
        )


async def turns_now(context: OperationContext, jobs: Iterable[Job]) -> Turns:
    """`jobs`: those about which it is asked."""
    services, now = context.services, context.services.now_ms()
    clients = {job.client for job in jobs if job.waits_unclaimed}
    return Turns(
        queue=await services.store.queue(LOOKED_THROUGH),
        client=context.caller.client,
        now=now,
        pace_ms=services.engines.pace_ms,
        use=await services.store.use_of(clients, now=now),
    )


async def with_turns(
    context: OperationContext, states: Sequence[tuple[Job, WorkflowResult]]
) -> list[WorkflowResult]:
    """Those that wait for nothing but their turn say what is ahead of them."""
    if not any(_waits_for_its_turn(*each) for each in states):
        return [result for _, result in states]
    turns = await turns_now(context, [job for job, _ in states])
    return [with_turn(turns, job, result, foreign_ahead(context, job)) for job, result in states]


async def quota_of(context: OperationContext) -> QuotaItem | None:
    """The caller's own. None: it has no key of its own."""
    services, client = context.services, context.caller.client
    use = (await services.store.use_of([client], now=services.now_ms())).get(client)
    return None if use is None else QuotaItem.model_validate(use, from_attributes=True)


def with_turn(turns: Turns, job: Job, result: WorkflowResult, foreign: int) -> WorkflowResult:
    why = turns.why(job, foreign) if _waits_for_its_turn(job, result) else None
    return result if why is None else result.model_copy(update={"waiting_for": why})


def foreign_ahead(context: OperationContext, job: Job) -> int:
    """As far as this process knows: no engine is asked for it."""
    return context.services.engines.foreign_ahead(job.engine)


def _waits_for_its_turn(job: Job, result: WorkflowResult) -> bool:
    return job.status is JobStatus.QUEUED and result.waiting_for is None


def _shares_engine(other: Job, job: Job) -> bool:
    """Whether `other` is before it: one that an engine has already waits for that engine only."""
    return other.lane == job.lane and (job.engine is None or other.engine == job.engine)


def _sentence(*, yours: int, others: int, foreign: int, start_ms: int | None) -> str:
    counts = {"yours": yours, "of others": others, "given to ComfyUI itself": foreign}
    named = ", ".join(f"{count} {whose}" for whose, count in counts.items() if count)
    starts = "" if start_ms is None else f"; it may start in {about(start_ms, in_range(start_ms))}"
    return f"Ahead of it: {named}{starts}."
