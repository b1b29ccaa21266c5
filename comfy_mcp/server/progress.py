"""notifications/progress while a tool waits: paced, growing, the last state always sent."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from comfy_mcp.operations.shapes import WorkflowResult

log = structlog.get_logger(__name__)

Send = Callable[[float, float | None, str | None], Awaitable[None]]

TOTAL = 100.0
PAUSE_S = 1 / 3
"""Between two states: with the last one, which does not wait, never more than four in a second."""

STEP = 0.001
"""The protocol wants every value greater than the last, also when only the message changed."""

HEARTBEAT_S = 10.0
"""A wait in which nothing happens is reported so often: some clients abort a call that is silent for a minute
(`resetTimeoutOnProgress`)."""


class ProgressReporter:
    """Sends the latest state to the client. `run` is a task that ends with the wait."""

    def __init__(
        self,
        send: Send,
        *,
        send_timeout_s: float,
        pause_s: float = PAUSE_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._send = send
        self._timeout_s = send_timeout_s
        self._pause_s = pause_s
        self._heartbeat_s = heartbeat_s
        self._latest: WorkflowResult | None = None
        self._changed = asyncio.Event()
        self._value = -STEP
        self._message: str | None = None
        self._broken = False

    async def heard(self, result: WorkflowResult) -> None:
        """A new state; never waits."""
        self._latest = result
        self._changed.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while not self._broken:
            silent = False
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._changed.wait()
            except TimeoutError:
                silent = True
            self._changed.clear()
            if self._latest is not None and self._latest.status in {"queued", "running"}:
                await self._report(self._latest, anyway=silent)
                await asyncio.sleep(self._pause_s)

    async def finish(self) -> None:
        """Send the last state, if it was not sent yet."""
        if self._latest is not None and not self._broken:
            await self._report(self._latest)

    async def _report(self, result: WorkflowResult, *, anyway: bool = False) -> None:
        message = progress_message(result)
        value = _next_value(self._value, result.progress, changed=anyway or message != self._message)
        if value is None:
            return
        self._value, self._message = value, message
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(max(value, 0.0), TOTAL, message)
        except TimeoutError:
            self._broken = True
            log.warning("progress_not_taken", job_id=result.workflow_id)


def progress_message(result: WorkflowResult) -> str:
    """What a person reads beside the bar."""
    match result.status:
        case "queued":
            return f"queued{result.waiting()}"
        case "running":
            return result.current_node or "running"
        case "completed" | "failed" | "cancelled":
            return result.status


def _next_value(last: float, progress: float, *, changed: bool) -> float | None:
    """The value to send, or None when there is nothing new. A requeued job starts over: the bar stays."""
    if progress > last:
        return min(progress, TOTAL)
    if not changed:
        return None
    return last + min(STEP, (TOTAL - last) / 1000)
