"""Outputs: what jobs made. Synchronous; runs in a transaction of the caller."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, select, update

from comfy_mcp.domain.catalog import Output, OutputFound, OutputKind, Page
from comfy_mcp.domain.ids import JobId, OutputId
from comfy_mcp.store.codec import output_of, output_values
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.queries import OutputQuery, clamp, page_of, seq_of
from comfy_mcp.store.schema import jobs, outputs

_INSERT = Statement(insert(outputs))
_BY_ID = Statement(select(outputs).where(outputs.c.id == bindparam("b_id")))
_OF_JOB = Statement(select(outputs).where(outputs.c.job_id == bindparam("b_job_id")).order_by(outputs.c.seq))
_OF_JOBS = (
    select(outputs).where(outputs.c.job_id.in_(bindparam("ids", expanding=True))).order_by(outputs.c.seq)
)
_WITHOUT_SIZE = select(outputs.c.id).where(
    outputs.c.id.in_(bindparam("ids", expanding=True)), outputs.c.size.is_(None)
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


def of_jobs(connection: Connection, job_ids: Sequence[JobId]) -> dict[JobId, list[Output]]:
    """Of each that has some, in the order in which they were recorded."""
    found: dict[JobId, list[Output]] = {}
    for row in connection.execute(_OF_JOBS, {"ids": job_ids}) if job_ids else ():
        found.setdefault(JobId(row.job_id), []).append(output_of(row))
    return found


def listing(connection: Connection, query: OutputQuery) -> Page[Output]:
    statement: Select[Any] = select(outputs).order_by(outputs.c.seq.desc())
    if query.job_id is not None:
        statement = statement.where(outputs.c.job_id == query.job_id)
    if query.client is not None:
        made_for = select(jobs.c.id).where(jobs.c.client == query.client)
        statement = statement.where(outputs.c.job_id.in_(made_for))
    if query.filename is not None:
        statement = statement.where(outputs.c.filename == query.filename)
    if query.kinds:
        statement = statement.where(outputs.c.kind.in_([OutputKind(kind).value for kind in query.kinds]))
    if query.created_after is not None:
        statement = statement.where(outputs.c.created_at >= query.created_after)
    if query.created_before is not None:
        statement = statement.where(outputs.c.created_at <= query.created_before)
    if query.cursor is not None:
        statement = statement.where(outputs.c.seq < seq_of(query.cursor))
    limit = clamp(query.limit)
    return page_of(connection.execute(statement.limit(limit + 1)).all(), limit, output_of)


def without_size(connection: Connection, ids: Collection[OutputId]) -> list[OutputId]:
    """Those of them whose size is not known."""
    return [OutputId(row.id) for row in connection.execute(_WITHOUT_SIZE, {"ids": list(ids)})] if ids else []


def refine(connection: Connection, found: Sequence[OutputFound]) -> None:
    """Fill in what became known. An output that retention has forgotten is no error."""
    if found:
        connection.execute_many(
            _REFINE, [{"b_id": each.id, "b_size": each.size, "b_sha256": each.sha256} for each in found]
        )
