"""What is written down is what SQLAlchemy makes of it."""

import pytest
import sqlalchemy

from comfy_mcp.store import schema
from comfy_mcp.store.core import (
    Deferred,
    and_,
    bindparam,
    described,
    digest_of,
    func,
    jobs,
    made,
    or_,
    select,
    tuple_,
)
from comfy_mcp.store.core import now_ms as now


def text(expression: object) -> str:
    return " ".join(str(expression).split())


def test_a_deferred_expression_makes_the_same_as_sqlalchemy() -> None:
    real = schema.jobs
    deferred = (
        select(jobs.c.id, func.count().label("n"), (now() - jobs.c.created_at).label("age"))
        .where(
            and_(jobs.c.lane == bindparam("b_lane"), ~(jobs.c.seq >= 3)),
            or_(jobs.c.seq != 1, jobs.c.seq < 2, jobs.c.seq > 4, jobs.c.seq <= 5),
            tuple_(jobs.c.seq, jobs.c.id) < tuple_(bindparam("b_a"), bindparam("b_b")),
            jobs.c.status.in_(["queued", "running"]),
        )
        .limit(bindparam("count", type_=jobs.c.seq.type))
    )
    expected = (
        sqlalchemy.select(
            real.c.id,
            sqlalchemy.func.count().label("n"),
            (schema.now_ms() - real.c.created_at).label("age"),
        )
        .where(
            sqlalchemy.and_(real.c.lane == sqlalchemy.bindparam("b_lane"), ~(real.c.seq >= 3)),
            sqlalchemy.or_(real.c.seq != 1, real.c.seq < 2, real.c.seq > 4, real.c.seq <= 5),
            sqlalchemy.tuple_(real.c.seq, real.c.id)
            < sqlalchemy.tuple_(sqlalchemy.bindparam("b_a"), sqlalchemy.bindparam("b_b")),
            real.c.status.in_(["queued", "running"]),
        )
        .limit(sqlalchemy.bindparam("count", type_=real.c.seq.type))
    )
    assert isinstance(deferred, Deferred)
    dialect = sqlalchemy.create_engine("sqlite://").dialect
    assert text(made(deferred).compile(dialect=dialect)) == text(expected.compile(dialect=dialect))


def test_two_uses_of_an_expression_are_one_object() -> None:
    places = select(jobs.c.id).subquery()
    statement = select(places).where(places.c.id == "x")
    assert text(made(statement)).count("FROM jobs") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: jobs.c.id == "b",
        lambda: jobs.c.id != "a",
        lambda: jobs.c.client == "a",
        lambda: jobs.c.id == bindparam("a"),
        lambda: jobs.c.id.in_(["a"]),
    ],
)
def test_what_differs_is_described_differently(change: object) -> None:
    assert callable(change)
    assert digest_of(change()) != digest_of(jobs.c.id == "a")  # type: ignore[arg-type]
    assert described(change()) == described(change())


def test_what_is_not_made_yet_is_nothing_to_count_or_to_ask() -> None:
    with pytest.raises(TypeError):
        bool(jobs.c.id == "a")
    with pytest.raises(TypeError):
        list(jobs.c)
