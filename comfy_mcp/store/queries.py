"""What callers ask for and get back, beside the domain's own types; and cursors."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.catalog import Output, OutputQuery, Page
from comfy_mcp.domain.cursors import cursor_of, invalid_cursor, position_in
from comfy_mcp.domain.events import JobQueued
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import LOCAL, EngineId, JobId, PromptId
from comfy_mcp.domain.job import Job, JobQuery, JobStatus
from comfy_mcp.domain.needs import NO_WISH, Needs, Wish
from comfy_mcp.domain.placing import Waiting
from comfy_mcp.domain.vram import Admission
from comfy_mcp.store.codec import Texts
from comfy_mcp.store.connection import AnyRow
from comfy_mcp.store.core import and_, bindparam

__all__ = [
    "AttemptView",
    "Chooser",
    "Claim",
    "ClaimOffer",
    "JobGraph",
    "JobQuery",
    "JobView",
    "Lease",
    "LeaseState",
    "OutputQuery",
    "QueueView",
    "Submission",
]

MAX_LIMIT = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """`queued` in run order and `blocked` by age, cut at the limit that was asked for; `counts` covers every
    job."""

    running: tuple[Job, ...]
    queued: tuple[Job, ...]
    blocked: tuple[Job, ...]
    counts: Mapping[JobStatus, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to drive one engine. Every write is fenced with it; a takeover raises `fence`."""

    engine: EngineId
    holder: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """Who drives an engine. `expires_in_s` is negative once it has expired; `holder` "" = released."""

    engine: EngineId
    holder: str
    fence: int
    expires_in_s: float

    @property
    def live(self) -> bool:
        return self.expires_in_s > 0


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that is to be written. `ahead` more run before it than the store knows of.

    With `idempotency`, the client's first submit under that key is answered again. `fair`: clients take turns
    within a priority; otherwise the job stands behind all of its priority.
    """

    event: JobQueued
    graph: Mapping[str, Any]
    max_queued: int
    idempotency: Idempotency | None = None
    ahead: int = 0
    fair: bool = True
    needs: Needs | None = None
    submitted: Submitted | None = None
    large: bool = False
    """Its JSON is not written on the event loop."""

    @cached_property
    def texts(self) -> Texts:
        """Made once, also where the write is tried here first and then in the thread."""
        return Texts.of(self.graph, self.submitted, large=self.large)


class Chooser(Protocol):
    """Which of the waiting jobs an engine takes. Called in the transaction of the claim, in any thread."""

    @property
    def unfit(self) -> Collection[str]:
        """`needs_key`s of jobs that it can't run; grows while it chooses."""
        ...

    def fits(self, key: str | None, needs: Needs | None) -> bool:
        """Whether it can run such a job; if not, the key is `unfit` from now on."""
        ...

    def takes_first(self, job_id: str, job: Waiting) -> bool:
        """Whether it takes the first job that waits, which fits, whatever waits behind it."""
        ...

    def choose(self, waiting: Sequence[tuple[str, Waiting]], *, more: bool) -> int | None:
        """Which of them, all fit, by their ids; None: others shall have them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimOffer:
    """An engine that has room for one more job of its lane, and under what the job would be sent there."""

    lease: Lease
    prompt_id: PromptId
    lane: str = LOCAL
    stream_id: str | None = None
    admission: Admission | None = None
    chooser: Chooser | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job whose attempt is written down; `job.prompt_id` is what to submit its graph under, `text` in JSON.

    `stream_id`: where the engine sends the attempt's events. `reference`: what the place calls it, if that is
    not the prompt_id. `needs`: None for a job of before they were kept. `more`: others waited in the lane
    when it was claimed. True where that is not known.
    """

    job: Job
    text: str
    needs: Needs | None = None
    submitted: Submitted | None = None
    stream_id: str | None = None
    reference: str | None = None
    more: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGraph:
    """The graph in API format, what was submitted where that was something else, and what it asks of the
    engine."""

    graph: dict[str, Any]
    submitted: Submitted | None = None
    wish: Wish = NO_WISH


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """All that is shown of a job, as of one moment. `position`: its position in the run order if it waits.

    `made` is for what others make of it, which is kept as long as the view is.
    """

    job: Job
    outputs: tuple[Output, ...]
    position: int | None
    made: dict[int | None, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One submission to an engine. `outcome` is "active", or the type of the event that ended it; `reason`
    is why it was lost or failed. Times are epoch ms."""

    job_id: JobId
    attempt: int
    engine: EngineId
    prompt_id: PromptId
    claimed_at: int
    finished_at: int | None
    outcome: str
    reason: str | None


def page_of(rows: Sequence[AnyRow], limit: int, decode: Callable[[AnyRow], T]) -> Page[T]:
    """A page from at most limit + 1 rows that have a `seq`: the extra row says that there is more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page(
        items=tuple(decode(row) for row in shown),
        next_cursor=cursor_of({"before": shown[-1].seq}) if more else None,
    )


def starts_with(column: Any, name: str) -> Any:
    """A condition on ids in hexadecimal, with their start bound as `name`: behind its digits comes "g"."""
    return and_(column >= bindparam(name), column < bindparam(name).concat("g"))


def clamp(limit: int) -> int:
    return max(1, min(limit, MAX_LIMIT))


def seq_of(cursor: str) -> int:
    """The position between rows that a cursor names, so that pages neither repeat nor skip one.

    Raises InvalidInput (`invalid_argument`).
    """
    match position_in(cursor):
        case {"before": int() as seq} if not isinstance(seq, bool) and 0 <= seq < 2**63:
            return seq
        case _:
            raise invalid_cursor()
