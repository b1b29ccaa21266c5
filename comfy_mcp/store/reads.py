"""Jobs as they are read: one, pages of them, the queue. Synchronous; runs in a transaction of the caller."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from comfy_mcp.domain.catalog import Page
from comfy_mcp.domain.errors import NotFound
from comfy_mcp.domain.events import JobProgressed
from comfy_mcp.domain.ids import CLOUDS, LOCAL, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.needs import NO_WISH
from comfy_mcp.store import event_log, outputs, tags
from comfy_mcp.store.codec import graph_of, needs_of, submitted_of
from comfy_mcp.store.connection import AnyRow, Connection, Pages, Statement
from comfy_mcp.store.core import (
    IS_ACTIVE,
    IS_QUEUED,
    Integer,
    and_,
    attempts,
    bindparam,
    func,
    graphs,
    jobs,
    literal,
    literal_column,
    now_ms,
    select,
    tuple_,
)
from comfy_mcp.store.queries import (
    JobGraph,
    JobQuery,
    JobView,
    QueueView,
    clamp,
    page_of,
    seq_of,
    starts_with,
)
from comfy_mcp.store.salvage import job_shown

T_co = TypeVar("T_co", covariant=True)

AT_A_GLANCE = 2_000
"""Outputs, or jobs in front of one, that are read on the event loop: about two milliseconds."""

GRAPHS_AT_ONCE = 20
"""Graphs in memory while all are looked through; one may have megabytes."""

_BY_ID = Statement(select(jobs).where(jobs.c.id == bindparam("b_id")))
_GRAPH = Statement(
    select(graphs.c.graph, graphs.c.submitted, graphs.c.needs).where(graphs.c.job_id == bindparam("b_id"))
)
_HAS_SUBMITTED = Statement(
    select(graphs.c.submitted.is_not(None)).where(graphs.c.job_id == bindparam("b_id"))
)
_WITH = Statement(
    select(graphs.c.job_id, graphs.c.graph)
    .where(graphs.c.job_id > bindparam("b_after"), graphs.c.graph.contains(bindparam("b_part")))
    .order_by(graphs.c.job_id)
    .limit(bindparam("count", type_=Integer))
)
_COUNTS = Statement(select(jobs.c.status, func.count().label("n")).group_by(jobs.c.status))

# A claimed job that has not started yet is queued still, but runs before all that are not claimed.
_CLAIMED = jobs.c.prompt_id.is_not(None)
_RUN_KEY = (jobs.c.priority, jobs.c.share_tag, jobs.c.seq)
_PLACE = (jobs.c.id, jobs.c.lane, jobs.c.prompt_id, *_RUN_KEY)
_PLACES_OF = Statement(
    select(*_PLACE).where(
        jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.status == JobStatus.QUEUED.value
    )
)
# Each row is counted once, however many places are asked for: from the one before to this one.
_THOSE_BETWEEN = (
    IS_QUEUED,
    jobs.c.lane == bindparam("b_lane"),
    jobs.c.prompt_id.is_(None),
    tuple_(*_RUN_KEY) >= tuple_(bindparam("b_priority"), bindparam("b_tag"), bindparam("b_seq")),
    tuple_(*_RUN_KEY) < tuple_(bindparam("e_priority"), bindparam("e_tag"), bindparam("e_seq")),
)
_BETWEEN = Statement(select(func.count()).where(*_THOSE_BETWEEN))
_SOME_BETWEEN = Statement(
    select(func.count()).select_from(
        select(literal(1)).where(*_THOSE_BETWEEN).limit(literal_column(str(AT_A_GLANCE + 1))).subquery()
    )
)
_RUNNING = Statement(select(jobs).where(jobs.c.status == JobStatus.RUNNING.value).order_by(jobs.c.seq))
_BLOCKED = Statement(
    select(jobs)
    .where(jobs.c.status == JobStatus.BLOCKED.value)
    .order_by(jobs.c.seq)
    .limit(bindparam("count", type_=Integer))
)
_RUNNING_NOW = Statement(
    select(
        jobs.c.id,
        jobs.c.attempt,
        jobs.c.progress,
        jobs.c.current_node,
        jobs.c.current_node_title,
        jobs.c.eta_ms,
        now_ms().label("now"),
    ).where(jobs.c.status == JobStatus.RUNNING.value)
)
_COUNT = bindparam("count", type_=Integer)
_IN_ORDER = (jobs.c.prompt_id.is_(None), jobs.c.priority, jobs.c.share_tag, jobs.c.seq)


def _first_of(lane: str) -> Any:
    """Those that no engine has: the index of the run order goes lane by lane."""
    first = (
        select(jobs.c.seq)
        .where(IS_QUEUED, jobs.c.lane == lane, jobs.c.prompt_id.is_(None))
        .order_by(*_IN_ORDER[1:])
        .limit(_COUNT)
        .subquery()
    )
    return select(first.c.seq)


# From the attempts: an index of the status, if that were compared by itself, would lead through the queue.
_IS_STILL_QUEUED = jobs.c.status.concat("") == JobStatus.QUEUED.value
_WITH_ENGINES = (
    select(jobs.c.seq)
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(IS_ACTIVE, _IS_STILL_QUEUED, _CLAIMED)
)
_FIRST = _WITH_ENGINES.union_all(*(_first_of(lane) for lane in (LOCAL, *sorted(CLOUDS))))
_RUN_ORDER = Statement(select(jobs).where(jobs.c.seq.in_(_FIRST)).order_by(*_IN_ORDER).limit(_COUNT))
_CLAIMED_PLACES = Statement(_WITH_ENGINES.with_only_columns(*_PLACE))


def get(connection: Connection, job_id: JobId) -> Job | None:
    row = row_of(connection, job_id)
    return None if row is None else job_shown(row)


def row_of(connection: Connection, job_id: JobId) -> AnyRow | None:
    return connection.execute(_BY_ID, {"b_id": job_id}).first()


class Glance(Protocol[T_co]):
    """A read that can say TooMuch."""

    def __call__(self, connection: Connection, *, at_a_glance: bool) -> T_co: ...


class TooMuch(Exception):
    """More has to be read than AT_A_GLANCE."""


def view(connection: Connection, job_id: JobId, *, at_a_glance: bool = False) -> JobView | None:
    """Raises TooMuch, `at_a_glance` only."""
    row = connection.execute(_BY_ID, {"b_id": job_id}).first()
    if row is None:
        return None
    job, is_queued = job_shown(row), row.status == JobStatus.QUEUED.value
    if at_a_glance and job.output_count > AT_A_GLANCE:
        raise TooMuch
    return JobView(
        job=job,
        outputs=tuple(outputs.of_job(connection, job_id)) if job.output_count else (),
        position=position(connection, job_id, at_a_glance=at_a_glance) if is_queued else None,
    )


def get_graph(connection: Connection, job_id: JobId) -> JobGraph | None:
    row = connection.execute(_GRAPH, {"b_id": job_id}).first()
    if row is None:
        return None
    wish = NO_WISH if row.needs is None else needs_of(row.needs).wish
    return JobGraph(graph=graph_of(row.graph), submitted=submitted_of(row.submitted), wish=wish)


def has_submitted(connection: Connection, job_id: JobId) -> bool:
    """Whether more than the graph is kept of its submit."""
    return bool(connection.execute(_HAS_SUBMITTED, {"b_id": job_id}).scalar())


def graphs_with(connection: Connection, part: str, after: str) -> list[tuple[str, str]]:
    """(job, graph as it is kept) of the next graphs in which `part` stands."""
    values = {"b_part": part, "b_after": after, "count": GRAPHS_AT_ONCE}
    return [(row.job_id, row.graph) for row in connection.execute(_WITH, values)]


_CONDITIONS = {
    "statuses": jobs.c.status.in_(bindparam("statuses", expanding=True)),
    "ids": jobs.c.id.in_(bindparam("ids", expanding=True)),
    "b_client": jobs.c.client == bindparam("b_client"),
    "b_batch": and_(jobs.c.batch.is_not(None), jobs.c.batch == bindparam("b_batch")),
    "b_engine": jobs.c.engine == bindparam("b_engine"),
    "b_failure": jobs.c.failure_kind == bindparam("b_failure"),
    "b_retried": jobs.c.retried_by.is_not(None) == bindparam("b_retried"),
    "b_after": jobs.c.created_at >= bindparam("b_after"),
    "b_before": jobs.c.created_at <= bindparam("b_before"),
    "b_id_start": starts_with(jobs.c.id, "b_id_start"),
    "b_batch_start": and_(jobs.c.batch.is_not(None), starts_with(jobs.c.batch, "b_batch_start")),
    "b_tag": tags.HAS,
    "b_cursor": jobs.c.seq < bindparam("b_cursor"),
}
PAGES = Pages(
    select(jobs).order_by(jobs.c.seq.desc()).limit(bindparam("b_limit", type_=Integer)), _CONDITIONS
)


def listing(connection: Connection, query: JobQuery) -> Page[Job]:
    limit = clamp(query.limit)
    wanted = {
        "statuses": [JobStatus(status).value for status in query.statuses] or None,
        "ids": list(query.ids) or None,
        "b_client": query.client,
        "b_batch": query.batch,
        "b_engine": query.engine,
        "b_failure": None if query.failure_kind is None else query.failure_kind.value,
        "b_retried": query.retried,
        "b_after": query.created_after,
        "b_before": query.created_before,
        "b_id_start": query.id_start,
        "b_batch_start": query.batch_start,
        "b_tag": None if query.tag is None else tags.text_of(*query.tag),
        "b_cursor": None if query.cursor is None else seq_of(query.cursor),
    }
    return page_of(PAGES.rows(connection, wanted, limit + 1), limit, job_shown)


def views(connection: Connection, query: JobQuery) -> Page[JobView]:
    """As `listing`, each job as `view` has it but for its further outputs (`outputs.OF_A_LISTED_JOB`)."""
    page = listing(connection, query)
    made = outputs.of_listed(connection, page.items)
    waiting = [job.id for job in page.items if job.status is JobStatus.QUEUED]
    places = _places(connection, waiting)
    items = tuple(
        JobView(job=job, outputs=tuple(made.get(job.id, ())), position=places.get(job.id))
        for job in page.items
    )
    return Page(items=items, next_cursor=page.next_cursor)


def position(connection: Connection, job_id: JobId, *, at_a_glance: bool = False) -> int | None:
    """Raises TooMuch, `at_a_glance` only."""
    return _places(connection, [job_id], _SOME_BETWEEN if at_a_glance else _BETWEEN).get(job_id)


def _places(connection: Connection, ids: Sequence[JobId], between: Statement = _BETWEEN) -> dict[JobId, int]:
    """In its lane's run order, 1 = next, of each that is queued. The claimed ones come first."""
    rows = connection.execute(_PLACES_OF, {"ids": ids}).rows if ids else []
    if not rows:
        return {}
    places: dict[JobId, int] = {}
    claimed = sorted(connection.execute(_CLAIMED_PLACES).rows, key=_run_key)
    for lane in {row.lane for row in rows}:
        there = [row.id for row in claimed if row.lane == lane]
        places |= {JobId(each): at for at, each in enumerate(there, start=1)}
        place, before = len(there) + 1, (0, 0, 0)
        for row in sorted((row for row in rows if row.lane == lane and row.prompt_id is None), key=_run_key):
            count = connection.execute(between, _between(lane, before, _run_key(row))).scalar_one()
            if between is _SOME_BETWEEN and count > AT_A_GLANCE:
                raise TooMuch
            place += count
            places[JobId(row.id)], before = place, _run_key(row)
    return places


def _run_key(row: AnyRow) -> tuple[int, int, int]:
    return row.priority, row.share_tag, row.seq


def _between(lane: str, begin: tuple[int, int, int], end: tuple[int, int, int]) -> Mapping[str, object]:
    names = ("priority", "tag", "seq")
    edges = (("b", begin), ("e", end))
    return {
        "b_lane": lane,
        **{f"{edge}_{name}": at for edge, key in edges for name, at in zip(names, key, strict=True)},
    }


def queue(connection: Connection, limit: int) -> QueueView:
    return QueueView(
        running=tuple(job_shown(row) for row in connection.execute(_RUNNING)),
        queued=run_order(connection, limit),
        blocked=tuple(job_shown(row) for row in connection.execute(_BLOCKED, {"count": clamp(limit)})),
        counts=counts(connection),
    )


def run_order(connection: Connection, limit: int) -> tuple[Job, ...]:
    """The first that are queued. It reads some of each lane, however many wait."""
    return tuple(job_shown(row) for row in connection.execute(_RUN_ORDER, {"count": clamp(limit)}))


def running_steps(connection: Connection) -> tuple[int, list[JobProgressed]]:
    """How far each running job is, as if it had just been said, and the end of the log at that moment."""
    steps = [
        JobProgressed(
            job_id=row.id,
            at=row.now,
            attempt=row.attempt,
            progress=row.progress,
            node_id=row.current_node,
            node_title=row.current_node_title,
            eta_ms=row.eta_ms,
        )
        for row in connection.execute(_RUNNING_NOW)
    ]
    return event_log.last_seq(connection), steps


def counts(connection: Connection) -> dict[JobStatus, int]:
    """Every status, zeros included."""
    found = {row.status: row.n for row in connection.execute(_COUNTS)}
    return {status: found.get(status.value, 0) for status in JobStatus}


def not_found(job_id: JobId) -> NotFound:
    return NotFound(
        f"There is no workflow {job_id}.",
        next_step="Check the id; old workflows are deleted after the retention time.",
    )
