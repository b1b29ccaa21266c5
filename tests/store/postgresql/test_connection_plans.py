"""What a claim reads, however many jobs wait, and although nobody has analysed the table."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store, choosing, claims, due, queue, reads, turns
from comfy_mcp.store.connection import Statement
from comfy_mcp.store.postgresql.connection import POSTGRESQL
from tests.support import postgres
from tests.support.invariants import check_store
from tests.support.jobs import GRAPH, queued_event

QUEUED = 20_000


NEVER, ANALYZE, VACUUM = "SELECT 1", "ANALYZE jobs, deliveries", "VACUUM ANALYZE jobs"
"""What was done to the table since its jobs came."""


@pytest.fixture(scope="module")
def crowded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["psycopg.Connection[Any]"]:
    """Jobs that wait, and as many that have ended. Its tests only ask for plans; it is made once for each
    upkeep (`request.param`)."""
    url = postgres.shared().database()
    settings = load_settings(state_dir=tmp_path_factory.mktemp("crowded"), store=url)
    with psycopg.connect(url, autocommit=True) as by_hand:
        asyncio.run(one_job(settings))
        crowd(by_hand)
        by_hand.execute(request.param)
        yield by_hand
        by_hand.execute("DELETE FROM jobs WHERE id LIKE 'x%'")
    asyncio.run(checked(settings))


async def one_job(settings: Settings) -> None:
    store = await Store.open(settings)
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store.close()


async def checked(settings: Settings) -> None:
    store = await Store.open(settings)
    await check_store(store)
    await store.close()


def crowd(by_hand: "psycopg.Connection[Any]") -> None:
    by_hand.execute("ALTER TABLE jobs SET (autovacuum_enabled = off)")
    columns = [
        row[0]
        for row in by_hand.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'jobs' "
            "AND table_schema = current_schema() AND column_name NOT IN ('seq', 'id', 'status', 'share_tag')"
        )
    ]
    names = ", ".join(f'"{name}"' for name in columns)
    by_hand.execute(
        f"INSERT INTO jobs (id, status, share_tag, {names}) SELECT 'x' || n, "
        f"CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'completed' END, n, {names} "
        f"FROM jobs, generate_series(1, {2 * QUEUED}) AS n"
    )
    by_hand.execute(
        "INSERT INTO deliveries (id, job_id, client, type, at, registered, url, host, state, tries, due_at) "
        "SELECT id, id, 'c' || seq % 3, 'workflow.queued', seq, false, '', 'h' || seq % 50, "
        "CASE WHEN status = 'queued' THEN 'pending' ELSE 'delivered' END, 0, seq FROM jobs"
    )


def plan_of(connection: "psycopg.Connection[Any]", statement: Statement) -> str:
    """The plan for any values."""
    text, names = statement.plan({}, POSTGRESQL).text, list[str]()

    def place(match: Any) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"__\[POSTCOMPILE_\w+\]", "'x', 'y'", text)
    text = POSTGRESQL.parameter.sub(place, text).replace("%%", "%")
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.execute(f"PREPARE asked AS {text}")
    try:
        values = f"({', '.join(['NULL'] * len(names))})" if names else ""
        rows = connection.execute(f"EXPLAIN EXECUTE asked{values}").fetchall()
    finally:
        connection.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("crowded", [NEVER, ANALYZE], ids=["never analysed", "analysed"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (choosing._NEXT, "ix_jobs_queue"),
        (choosing._WINDOW, "ix_jobs_queue"),
        (turns._STANDING, "ix_jobs_client_queue"),
        (turns._MOVE_UP, "ix_jobs_client_queue"),
    ],
    ids=["next", "window", "standing", "move up"],
)
def test_a_claim_walks_an_index_and_sorts_nothing(
    crowded: "psycopg.Connection[Any]", statement: Statement, index: str
) -> None:
    plan = plan_of(crowded, statement)
    assert index in plan, plan
    assert "Sort Key" not in plan, plan
    assert "Seq Scan on jobs" not in plan, plan


@pytest.mark.parametrize("crowded", [NEVER, ANALYZE], ids=["never analysed", "analysed"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [*choosing._HEADS.values(), claims._ANY_BELOW_LIMIT, claims._ANY_BELOW_LIMIT_AT],
    ids=["heads", "heads that fit", "any", "any at a priority"],
)
def test_while_a_client_is_at_its_limit_a_claim_goes_from_client_to_client(
    crowded: "psycopg.Connection[Any]", statement: Statement
) -> None:
    plan = plan_of(crowded, statement)
    assert plan.count("ix_jobs_client_queue") >= 2, plan
    assert "Sort Key" not in plan, plan
    assert "Seq Scan on jobs" not in plan, plan


@pytest.mark.parametrize("crowded", [NEVER, ANALYZE], ids=["never analysed", "analysed"], indirect=True)
@pytest.mark.parametrize(("statement", "looks"), [(due._RECEIVERS, 4), (due._OF, 1)], ids=["all", "of one"])
def test_a_look_for_what_is_to_be_sent_goes_from_client_to_client_and_from_host_to_host(
    crowded: "psycopg.Connection[Any]", statement: Statement, looks: int
) -> None:
    plan = plan_of(crowded, statement)
    assert plan.count("using ix_deliveries_") == looks, plan  # of recursions it shows the first look only
    assert "Scan on deliveries" not in plan, plan


@pytest.mark.parametrize("crowded", [VACUUM], ids=["vacuumed"], indirect=True)
def test_the_view_of_the_queue_reads_the_first_of_each_lane(
    crowded: "psycopg.Connection[Any]",
) -> None:
    plan = plan_of(crowded, reads._RUN_ORDER)
    assert plan.count("ix_jobs_queue") == 3, plan
    assert "Seq Scan on jobs" not in plan, plan


@pytest.mark.parametrize("crowded", [VACUUM], ids=["vacuumed"], indirect=True)
def test_counts_over_the_queue_use_its_partial_index(crowded: "psycopg.Connection[Any]") -> None:
    for statement in (queue._QUEUE_SIZES, reads._BETWEEN):
        plan = plan_of(crowded, statement)
        assert "Index Only Scan" in plan, plan
