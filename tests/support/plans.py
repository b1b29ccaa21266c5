"""How SQLite would run a statement of the store."""

from collections import defaultdict
from typing import Any

from comfy_mcp.store.connection import Connection, Statement


def plan_of(connection: Connection, statement: Statement, **values: Any) -> list[str]:
    """The lines of EXPLAIN QUERY PLAN. What is not given is 'x': it does not change the plan."""
    plan = statement.plan(values)
    text, bound = plan.bound({**{name: ["x"] for name in plan.lists}, **values})
    known: dict[str, Any] = defaultdict(lambda: "x", bound)
    return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", known)]
