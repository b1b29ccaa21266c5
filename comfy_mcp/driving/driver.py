"""Who drives an engine: one process at a time, by lease.

The driver waits for the lease, serves one tenure after the other, and never gives up: a lost lease, a store
that fails or a defect in a tenure ends that tenure only.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import structlog

from comfy_mcp.domain.errors import Fenced, StoreFault
from comfy_mcp.domain.events import (
    FINAL_EVENTS,
    CancelRequested,
    JobQueued,
    JobRequeued,
    JobWaiting,
    PreviewFrame,
    StoredEvent,
)
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.driving.leasing import Candidate
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import MemoryGate, Sampling
from comfy_mcp.driving.tenure import GivenUp, Tenure
from comfy_mcp.places.protocol import Runner, Trouble
from comfy_mcp.store import ClaimOffer, Lease

log = structlog.get_logger(__name__)


class Driver:
    """Drives one engine whenever this process can get its lease."""

    def __init__(
        self,
        place: Runner,
        means: Means,
        *,
        holder: str,
        sampling: Sampling | None = None,
        turn: Callable[[EngineId], AbstractAsyncContextManager[bool]] | None = None,
    ) -> None:
        """`sampling` says what the GPUs do now. `turn`: see `Candidate`."""
        self._place = place
        self._means = means
        self._candidate = Candidate(
            place.engine, holder=holder, store=means.store, settings=means.settings, turn=turn
        )
        self._sampling = sampling
        self._tenure: Tenure | None = None
        self._leaving = False
        self._log = log.bind(engine=place.engine)

    @property
    def engine(self) -> EngineId:
        return self._place.engine

    @property
    def driving(self) -> bool:
        return self._tenure is not None

    @property
    def connected(self) -> bool:
        """This process drives the engine and receives its events."""
        return self._tenure is not None and self._tenure.connected

    @property
    def leaving(self) -> bool:
        """The engine was removed: it takes nothing new."""
        return self._leaving

    @leaving.setter
    def leaving(self, leaving: bool) -> None:
        self._leaving = leaving
        if self._tenure is not None:
            self._tenure.leaving = leaving

    @property
    def giving_up(self) -> bool:
        """See `give_up`."""
        return self._tenure is not None and self._tenure.giving_up

    def give_up(self, giving_up: bool = True) -> None:
        """Another process is to drive the engine, once it has ended what it has. False: it is not."""
        if self._tenure is not None:
            self._tenure.give_up(giving_up)

    @property
    def in_flight(self) -> int:
        """Jobs that this process has at the engine."""
        return 0 if self._tenure is None else self._tenure.in_flight

    def hand_back(self, reason: str) -> None:
        """Its jobs are queued again: the engine is lost."""
        if self._tenure is not None:
            self._tenure.hand_back(reason)

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the engine, as far as this process knows."""
        return self._place.trouble if self._tenure is None else self._tenure.trouble

    @property
    def foreign(self) -> int | None:
        """Prompts at the engine that others sent, by its last word. None: this process does not know."""
        return self._tenure.foreign if self._tenure is not None and self._tenure.connected else None

    def preview(self, job_id: JobId) -> PreviewFrame | None:
        """See `Tenure.preview`."""
        return self._tenure.preview(job_id) if self._tenure is not None else None

    def drives(self, job_id: JobId) -> bool:
        """The job is at the engine, or about to be sent there."""
        return self._tenure is not None and self._tenure.drives(job_id)

    def work_arrived(self, *, ring: bool = True) -> None:
        """See `Tenure.work_arrived`."""
        if self._tenure is not None:
            self._tenure.work_arrived(ring=ring)

    def wake(self) -> bool:
        """See `Tenure.wake`."""
        return self._tenure is not None and self._tenure.wake()

    @property
    def has_room(self) -> bool:
        """See `Tenure.has_room`."""
        return self._tenure is not None and self._tenure.has_room

    @property
    def takes_files(self) -> bool:
        """See `Claiming.takes_files`."""
        return self._tenure is not None and self._tenure.takes_files

    def reserve(self, job_id: JobId) -> tuple[Tenure, ClaimOffer] | None:
        """See `Tenure.reserve`."""
        offer = None if self._tenure is None else self._tenure.reserve(job_id)
        return None if self._tenure is None or offer is None else (self._tenure, offer)

    def hear(self, stored: StoredEvent) -> None:
        """An event of the log, whoever wrote it: the wake-up between processes."""
        match stored.event:
            case JobQueued(job_id=job_id, lane=lane):
                here = lane == self._means.lane
                if here and not self.drives(job_id):  # else it was claimed before its event was read
                    self.work_arrived()
            case JobRequeued() | JobWaiting(waiting_for=None):
                self.work_arrived()
            case CancelRequested(job_id=job_id) if self._tenure is not None:
                self._tenure.cancel_requested(job_id)
            case _:
                if isinstance(stored.event, FINAL_EVENTS):
                    self.job_ended(stored.event.job_id)

    def job_ended(self, job_id: JobId) -> None:
        """See `Tenure.job_ended`."""
        if self._tenure is not None:
            self._tenure.job_ended(job_id)

    async def run(self) -> None:
        """Until cancelled."""
        await self._candidate.run(self._serve)

    async def _serve(self, lease: Lease) -> None:
        self._log.info("lease_acquired", fence=lease.fence)
        self._tenure = Tenure(
            lease=lease,
            place=self._place,
            means=self._means,
            gate=MemoryGate(self.engine, self._means.settings, self._means.clock, self._sampling),
        )
        self._tenure.leaving = self._leaving
        try:
            await self._tenure.run()
        except* GivenUp:
            self._log.info("lease_given_up", fence=lease.fence)
        except* Fenced:
            self._log.warning("lease_lost", fence=lease.fence)
        except* StoreFault as faults:
            self._log.error("store_failed", error=str(faults.exceptions[0]))
        except* Exception:  # noqa: BLE001
            # A defect must end neither the process nor the other engines; the jobs are found again.
            self._log.exception("tenure_failed", error_id=uuid4().hex[:8])
        finally:
            tenure, self._tenure = self._tenure, None
            self._means.gpu.abandon(self.engine)
            self._means.fleet.forget(self.engine)
            self._means.concerns.forget(self.engine)
            await self._candidate.release(lease, tenure.finish)
