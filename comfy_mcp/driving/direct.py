"""The short way of a submit: written, claimed and sent in one go, where an engine has room and nobody waits.

The claim is part of the transaction that writes the job: whatever dies afterwards, the next holder of the
lease finds the attempt. Most are written in one step of the loop. What has to be waited for belongs to no
caller, so one that leaves in the middle changes nothing.
"""

import asyncio

from comfy_mcp.domain.errors import ShuttingDown
from comfy_mcp.domain.job import Job
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.tenure import Tenure
from comfy_mcp.store import ClaimOffer, Store, Submission

Added = tuple[Job, int]
"""The job, and its place in the queue."""


class DirectSubmits:
    """`group` owns what has to be waited for; it outlives every tenure, so that no submit ends with one."""

    def __init__(self, group: asyncio.TaskGroup, store: Store) -> None:
        self._group = group
        self._store = store

    async def submit(
        self, tenure: Tenure, offer: ClaimOffer, submission: Submission, checked: Checked
    ) -> Added:
        """The tenure has reserved room. Raises what the store raises."""
        try:
            added = self._store.add_and_claim_now(submission, offer)
        except Exception:
            tenure.give_up_reserved()
            raise
        if added is not None:
            job, position, claim = added
            tenure.take_reserved(job, claim, checked)
            await asyncio.sleep(0)  # the engine gets the prompt first; the caller's answer is made meanwhile
            return job, position
        answer: asyncio.Future[Added] = asyncio.get_running_loop().create_future()
        waiting = self._wait(tenure, offer, submission, checked, answer)
        self._group.create_task(waiting, name="direct submit")
        return await answer

    async def _wait(
        self,
        tenure: Tenure,
        offer: ClaimOffer,
        submission: Submission,
        checked: Checked,
        answer: asyncio.Future[Added],
    ) -> None:
        try:
            job, position, claim = await self._store.add_and_claim(submission, offer)
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
