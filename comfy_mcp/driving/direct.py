"""The short way of a submit: written, claimed and sent in one go, where an engine has room and nobody waits.

The claim is part of the transaction that writes the job: whatever dies afterwards, the next holder of the
lease finds the attempt. The work belongs to no caller, so one that leaves in the middle changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

from comfy_mcp.domain.errors import ShuttingDown
from comfy_mcp.domain.job import Job
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.tenure import Tenure
from comfy_mcp.store import Claim

Added = tuple[Job, int]
"""The job, and its place in the queue."""

Add = Callable[[], Awaitable[tuple[Job, int, Claim | None]]]
"""`Store.add_and_claim` of one job, with what the tenure offers."""


class DirectSubmits:
    """`group` owns the work; it outlives every tenure, so that no submit ends with one."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    async def submit(self, tenure: Tenure, add: Add, checked: Checked) -> Added:
        """The tenure has reserved room. Raises what `add` raises."""
        answer: asyncio.Future[Added] = asyncio.get_running_loop().create_future()
        self._group.create_task(self._run(tenure, add, checked, answer), name="direct submit")
        return await answer

    async def _run(self, tenure: Tenure, add: Add, checked: Checked, answer: asyncio.Future[Added]) -> None:
        try:
            job, position, claim = await add()
        except asyncio.CancelledError:
            _fail(answer, ShuttingDown("This process is shutting down.", next_step="Submit it again."))
            raise
        except Exception as error:  # noqa: BLE001 - it is the caller's
            _fail(answer, error)
            tenure.give_up_reserved()
            return
        if not answer.done():
            answer.set_result((job, position))
        tenure.take_reserved(job, claim, checked)


def _fail(answer: asyncio.Future[Added], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
