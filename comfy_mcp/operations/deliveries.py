"""Sends what is in the outbox: one task for each try, bounded in number, for each host and for each client.

At least once: a process that dies leaves its tries to the others, TRY_S after they began. A try that fails
is made again, later each time, for about a day (domain/webhooks.py).
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from comfy_mcp import __version__
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import ClientId, OutputId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.webhooks import EVENTS, PREFIX, Delivery, delay_ms, signed_headers
from comfy_mcp.operations.brief import bounded
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.operations.views import workflow_result

if TYPE_CHECKING:
    from comfy_mcp.store.outbox import Due

log = structlog.get_logger(__name__)

AT_ONCE = 64
PER_HOST = 16
"""Of both, one client alone gets half (comfy_mcp/shares.py)."""

TRY_S = 60
"""When a try counts as lost: longer than the longest one (places/posting.py)."""

LOOK_S = 1.0
IDLE_LOOK_S = 5.0
"""How often a process looks for what is due; IDLE while there is no webhook. Its own commits wake it."""

_SENT = frozenset(each.removeprefix(PREFIX) for each in EVENTS)


class Answer(Protocol):
    """Of a receiver. `error` None: it has the event. `gone`: it wants no more of them. `pause_s`: it wants no
    try sooner."""

    @property
    def error(self) -> str | None: ...

    @property
    def gone(self) -> bool: ...

    @property
    def pause_s(self) -> float: ...


Post = Callable[[str, Mapping[str, str], bytes, ClientId], Awaitable[Answer]]
"""URL, headers and body of one try, and whose webhook it is."""


class Sender:
    """One per process. Each sends what it has committed itself; the one that is `elected` looks for the rest:
    what is due again, and what a process that died has left. None: it always does."""

    def __init__(self, services: Services, post: Post, elected: asyncio.Event | None = None) -> None:
        self._services = services
        self._post = post
        self._elected = elected
        self._wake = asyncio.Event()
        self._begun: dict[str, Delivery] = {}

    async def run(self) -> None:
        """Until cancelled; then what was not sent to the end is given back."""
        self._services.store.on_commit(self._committed)
        try:
            async with asyncio.TaskGroup() as group:
                look_s = LOOK_S
                while True:
                    if self._elected is None or self._elected.is_set() or self._wake.is_set():
                        self._wake.clear()
                        look_s = await self._begin(group)
                    try:
                        async with asyncio.timeout(look_s):
                            await self._wake.wait()
                    except TimeoutError:
                        continue
        finally:
            await self._give_back()

    def _committed(self, appended: Sequence[StoredEvent]) -> None:
        if self._services.store.may_have_webhooks and any(each.event.type in _SENT for each in appended):
            self._wake.set()

    async def _begin(self, group: asyncio.TaskGroup) -> float:
        """Begin the tries that are due and find room; when to look again."""
        store, now = self._services.store, self._services.now_ms()
        try:
            if not await store.webhooks():
                return IDLE_LOOK_S
            begun = await store.begin_tries(
                now=now,
                until=now + TRY_S * 1000,
                count=AT_ONCE - len(self._begun),
                per_host=PER_HOST,
                busy=list(self._begun.values()),
            )
        except StoreFault as fault:
            log.warning("webhooks_not_read", code=fault.code.value, error=str(fault))
            return IDLE_LOOK_S
        for due in begun:
            self._begun[due.delivery.id] = due.delivery
            group.create_task(self._try(due), name=f"webhook:{due.delivery.id}")
        return LOOK_S

    async def _try(self, due: "Due") -> None:
        """One delivery, once. Whatever goes wrong with it is that delivery's."""
        delivery = due.delivery
        try:
            await self._send(due)
        except StoreFault as fault:  # nobody has written how it ended: it is tried again after TRY_S
            log.warning("webhook_not_recorded", delivery=delivery.id, code=fault.code.value)
        except Exception:
            log.exception("webhook_failed", delivery=delivery.id)
        # Not reached when cancelled: then it is given back. A try that was lost may have begun again here.
        self._begun.pop(delivery.id, None)
        self._wake.set()

    async def _send(self, due: "Due") -> None:
        delivery, services = due.delivery, self._services
        webhook = (await services.store.webhooks()).get(delivery.client)
        if webhook is None or due.job is None:
            why = "it can't be signed" if webhook is None else "it can't be read"
            await self._end(delivery, why, gone=True)
            return
        body = await self._body(delivery, due.job)
        now = services.now_ms()
        headers = {
            "content-type": "application/json",
            "user-agent": f"comfy-mcp-bridge/{__version__}",
            **signed_headers(webhook.secrets(now), delivery.id, now // 1000, body),
        }
        answer = await self._post(delivery.url, headers, body, delivery.client)
        await self._end(delivery, answer.error, gone=answer.gone, pause_s=answer.pause_s)

    async def _end(self, delivery: Delivery, error: str | None, *, gone: bool, pause_s: float = 0.0) -> None:
        services, now = self._services, self._services.now_ms()
        wait_ms = None
        if error is not None and not gone:
            wait_ms = delay_ms(delivery.tries, random.random(), pause_s=pause_s)  # noqa: S311
        due_at = None if wait_ms is None else now + wait_ms
        await services.store.end_try(delivery, at=now, error=error, due_at=due_at)
        outcome = "delivered" if error is None else "dead" if due_at is None else "failed"
        if services.metrics is not None:
            services.metrics.webhook_tried(outcome)
        if error is not None:
            log.info(
                "webhook_tried", outcome=outcome, delivery=delivery.id, tries=delivery.tries, error=error
            )

    async def _body(self, delivery: Delivery, job: Job) -> bytes:
        """As the job was at the event, in the shape of the REST API."""
        services = self._services
        outputs = await services.store.outputs_of(job.id) if job.is_final else []
        result = bounded(workflow_result(job, outputs))
        assert isinstance(result, WorkflowResult), "a bounded result is of the same kind"
        if services.links.given:
            links = [
                each.model_copy(update={"link": services.links.of(each.url, OutputId(each.output_id))})
                for each in result.outputs
            ]
            result = result.model_copy(update={"outputs": links})
        at = datetime.fromtimestamp(delivery.at / 1000, UTC).isoformat(timespec="milliseconds")
        return json.dumps(
            {
                "type": delivery.type,
                "timestamp": at.replace("+00:00", "Z"),
                "data": result.model_dump(mode="json", exclude={"next_step"}),
            },
            separators=(",", ":"),
        ).encode()

    async def _give_back(self) -> None:
        begun = list(self._begun.values())
        if begun:
            try:
                await self._services.store.release_tries(begun, at=self._services.now_ms())
            except StoreFault as fault:
                log.warning("webhooks_not_given_back", code=fault.code.value, error=str(fault))
