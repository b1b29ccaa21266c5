"""Outputs: what jobs made. Synchronous; runs in a transaction of the caller."""

from collections.abc import Collection, Sequence

from comfy_mcp.domain.catalog import Output, OutputFound, OutputKind, Page
from comfy_mcp.domain.ids import JobId, OutputId
from comfy_mcp.domain.job import Job
from comfy_mcp.store.connection import Connection, Pages, Statement
from comfy_mcp.store.core import (
    Integer,
    and_,
    bindparam,
    func,
    insert,
    jobs,
    literal_column,
    or_,
    outputs,
    select,
    update,
)
from comfy_mcp.store.output_codec import output_of, output_values
from comfy_mcp.store.queries import OutputQuery, clamp, page_of, seq_of, starts_with

OF_A_LISTED_JOB = 100
"""Outputs of each job in a list of jobs: one may have thousands."""

_INSERT = Statement(insert(outputs))
_BY_ID = Statement(select(outputs).where(outputs.c.id == bindparam("b_id")))
_OF_JOB = Statement(select(outputs).where(outputs.c.job_id == bindparam("b_job_id")).order_by(outputs.c.seq))
_FIRST_OF_JOB = Statement(
    select(outputs)
    .where(outputs.c.job_id == bindparam("b_job_id"))
    .order_by(outputs.c.seq)
    .limit(literal_column(str(OF_A_LISTED_JOB)))
)
_OF_JOBS = Statement(
    select(outputs).where(outputs.c.job_id.in_(bindparam("ids", expanding=True))).order_by(outputs.c.seq)
)
_WITHOUT_SIZE = Statement(
    select(outputs.c.id).where(outputs.c.id.in_(bindparam("ids", expanding=True)), outputs.c.size.is_(None))
)
_REFINE = Statement(
    update(outputs)
    .where(outputs.c.id == bindparam("b_id"))
    .values(size=bindparam("b_size"), sha256=func.coalesce(bindparam("b_sha256"), outputs.c.sha256))
)


def add(connection: Connection, job_id: JobId, made: Sequence[Output]) -> None:
    if not made:
        return
    if any(output.job_id != job_id for output in made):
        raise ValueError(f"an output of another job among those of {job_id}")
    connection.execute_many(_INSERT, [output_values(output) for output in made])


def get(connection: Connection, output_id: OutputId) -> Output | None:
    row = connection.execute(_BY_ID, {"b_id": output_id}).first()
    return None if row is None else output_of(row)


def of_job(connection: Connection, job_id: JobId) -> list[Output]:
    return [output_of(row) for row in connection.execute(_OF_JOB, {"b_job_id": job_id})]


def of_listed(connection: Connection, listed: Sequence[Job]) -> dict[JobId, list[Output]]:
    """Of each that has some, the first OF_A_LISTED_JOB in the order in which they were recorded."""
    few = [job.id for job in listed if 0 < job.output_count <= OF_A_LISTED_JOB]
    rows = connection.execute(_OF_JOBS, {"ids": few}).rows if few else []
    for job in listed:
        if job.output_count > OF_A_LISTED_JOB:
            rows += connection.execute(_FIRST_OF_JOB, {"b_job_id": job.id}).rows
    found: dict[JobId, list[Output]] = {}
    for row in rows:
        found.setdefault(JobId(row.job_id), []).append(output_of(row))
    return found


_CONDITIONS = {
    "b_job_id": outputs.c.job_id.in_(
        select(jobs.c.id).where(
            or_(
                jobs.c.id == bindparam("b_job_id"),
                and_(jobs.c.batch.is_not(None), jobs.c.batch == bindparam("b_job_id")),
            )
        )
    ),
    "b_client": outputs.c.job_id.in_(select(jobs.c.id).where(jobs.c.client == bindparam("b_client"))),
    "b_filename": outputs.c.filename == bindparam("b_filename"),
    "b_id_start": starts_with(outputs.c.id, "b_id_start"),
    "kinds": outputs.c.kind.in_(bindparam("kinds", expanding=True)),
    "b_after": outputs.c.created_at >= bindparam("b_after"),
    "b_before": outputs.c.created_at <= bindparam("b_before"),
    "b_cursor": outputs.c.seq < bindparam("b_cursor"),
}
PAGES = Pages(
    select(outputs).order_by(outputs.c.seq.desc()).limit(bindparam("b_limit", type_=Integer)), _CONDITIONS
)


def listing(connection: Connection, query: OutputQuery) -> Page[Output]:
    limit = clamp(query.limit)
    wanted = {
        "b_job_id": query.job_id,
        "b_client": query.client,
        "b_filename": query.filename,
        "b_id_start": query.id_start,
        "kinds": [OutputKind(kind).value for kind in query.kinds] or None,
        "b_after": query.created_after,
        "b_before": query.created_before,
        "b_cursor": None if query.cursor is None else seq_of(query.cursor),
    }
    return page_of(PAGES.rows(connection, wanted, limit + 1), limit, output_of)


def without_size(connection: Connection, ids: Collection[OutputId]) -> list[OutputId]:
    """Those of them whose size is not known."""
    return [OutputId(row.id) for row in connection.execute(_WITHOUT_SIZE, {"ids": list(ids)})] if ids else []


def refine(connection: Connection, found: Sequence[OutputFound]) -> None:
    """Fill in what became known. An output that retention has forgotten is no error."""
    if found:
        connection.execute_many(
            _REFINE, [{"b_id": each.id, "b_size": each.size, "b_sha256": each.sha256} for each in found]
        )
