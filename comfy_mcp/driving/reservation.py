"""Room that a tenure keeps for a job that is being written, until it is known whether it was claimed."""

from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.checked import Checked, CheckedGraphs
from comfy_mcp.driving.claiming import Claiming
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.store import Claim, ClaimOffer


class Reservation:
    """One tenure's. While `job_id` is set nothing else is claimed. `written`: the job is claimed, and waits
    for `admit`."""

    def __init__(self, ledger: Ledger, claiming: Claiming, checked: CheckedGraphs) -> None:
        self.job_id: JobId | None = None
        self.written: tuple[Claim, Checked] | None = None
        self._offer: ClaimOffer | None = None
        self._ledger = ledger
        self._claiming = claiming
        self._checked = checked

    def make(self, job_id: JobId) -> ClaimOffer:
        offer = self._claiming.offers.make()
        self.job_id, self._offer = job_id, offer
        return offer

    def give_up(self) -> None:
        """The job was refused, or something raised: whether it was claimed is looked up."""
        self.job_id, self._ledger.may_have_work = None, True

    def take(self, job: Job, claim: Claim | None, checked: Checked, *, is_open: bool) -> Attempt | None:
        """The job is written, and claimed if nobody waited: then this is what to send. A tenure that is not
        open leaves it to the one that adopts it. None: to be admitted, or claimed from the queue as usual."""
        if self._offer is not None:
            self._claiming.offers.answered(self._offer)
        if claim is None:  # another job is next, or the submit was a repeat
            self._checked.put(job.id, checked)
            self.give_up()
        elif is_open and (new := self._claiming.follow_now(claim, checked)) is not None:
            self._over(claim)
            return new
        else:
            self.written = claim, checked
        return None

    async def admit(self) -> Attempt | None:
        """What was `written`, as an attempt to send. None: there was nothing, or it has failed."""
        if self.written is None:
            return None
        claim, checked = self.written
        new = await self._claiming.admit(claim, checked)
        self._over(claim)
        return new

    def _over(self, claim: Claim) -> None:
        self._ledger.may_have_work |= claim.more
        self.job_id = self.written = None
