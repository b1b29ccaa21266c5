"""Jobs as they are read: one, pages of them, the queue. Synchronous; runs in a transaction of the caller."""

from typing import Any

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
    now_ms,
    or_,
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
_BEFORE = or_(
    jobs.c.priority < bindparam("b_priority"),
    and_(
        jobs.c.priority == bindparam("b_priority"),
        tuple_(jobs.c.share_tag, jobs.c.seq) < tuple_(bindparam("b_tag"), bindparam("b_seq")),
    ),
)
_IN_LANE = select(func.count()).where(IS_QUEUED, jobs.c.lane == bindparam("b_lane"))
_AHEAD_CLAIMED = Statement(_IN_LANE.where(_CLAIMED, _BEFORE))
_AHEAD_UNCLAIMED = Statement(_IN_LANE.where(or_(_CLAIMED, _BEFORE)))
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
_PLACES = (
    select(
        jobs.c.id,
        func.row_number()
        .over(
            partition_by=jobs.c.lane,
            order_by=_IN_ORDER,
        )
        .label("place"),
    )
    .where(IS_QUEUED)
    .subquery()
)
_PLACES_OF = Statement(select(_PLACES).where(_PLACES.c.id.in_(bindparam("ids", expanding=True))))


def get(connection: Connection, job_id: JobId) -> Job | None:
    row = row_of(connection, job_id)
    return None if row is None else job_shown(row)


def row_of(connection: Connection, job_id: JobId) -> AnyRow | None:
    return connection.execute(_BY_ID, {"b_id": job_id}).first()


def view(connection: Connection, job_id: JobId) -> JobView | None:
    row = connection.execute(_BY_ID, {"b_id": job_id}).first()
    if row is None:
        return None
    job = job_shown(row)
    return JobView(
        job=job,
        outputs=tuple(outputs.of_job(connection, job_id)) if job.output_count else (),
        position=_position(connection, row) if job.status is JobStatus.QUEUED else None,
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
    """As `listing`, each job as `view` has it, in three statements however many there are."""
    page = listing(connection, query)
    made = outputs.of_jobs(connection, [job.id for job in page.items if job.output_count])
    waiting = [job.id for job in page.items if job.status is JobStatus.QUEUED]
    places = (
        {row.id: row.place for row in connection.execute(_PLACES_OF, {"ids": waiting})} if waiting else {}
    )
    items = tuple(
        JobView(job=job, outputs=tuple(made.get(job.id, ())), position=places.get(job.id))
        for job in page.items
    )
    return Page(items=items, next_cursor=page.next_cursor)


def position(connection: Connection, job_id: JobId) -> int | None:
    row = connection.execute(_BY_ID, {"b_id": job_id}).first()
    if row is None or row.status != JobStatus.QUEUED:
        return None
    return _position(connection, row)


def _position(connection: Connection, row: AnyRow) -> int:
    statement = _AHEAD_UNCLAIMED if row.prompt_id is None else _AHEAD_CLAIMED
    values = {"b_lane": row.lane, "b_priority": row.priority, "b_tag": row.share_tag, "b_seq": row.seq}
    return (connection.execute(statement, values).scalar() or 0) + 1


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
