"""Compiles statements and tables with SQLAlchemy: `python -m comfy_mcp.store.compiling` writes a
`compiled.py` for each database.

A test compares these files with what this module makes of every statement.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from sqlalchemy import Dialect, Insert, Update
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import dialect as sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.schema import CreateIndex, CreateTable

import comfy_mcp.store
from comfy_mcp.store import outputs, reads, schema
from comfy_mcp.store.connection import COLUMNS, PARAMETERS, Statement, Values
from comfy_mcp.store.core import digest_of, made

_SHORT_ID = ("b_id_start",)
_FIRST = [(), ("statuses",), ("b_client",), ("statuses", "b_client")]
_FIRST_OF_OUTPUTS = [
    (),
    ("b_job_id",),
    ("b_client",),
    ("b_job_id", "b_client"),
    ("b_filename",),
    ("b_client", "b_filename"),
]
OFTEN = [
    *((*names, *more) for names in _FIRST for more in ((), ("b_cursor",))),
    ("ids",),
    ("ids", "b_client"),
    _SHORT_ID,
    ("b_client", *_SHORT_ID),
    ("b_batch_start",),
    ("b_client", "b_batch_start"),
]
OFTEN_OF_OUTPUTS = [
    *((*names, *more) for names in _FIRST_OF_OUTPUTS for more in ((), ("b_cursor",))),
    _SHORT_ID,
    ("b_client", *_SHORT_ID),
]
"""Conditions of the pages that clients ask for most; any other is compiled when somebody asks for it."""

_HERE = Path(__file__).parent
FILES = {"sqlite": _HERE / "compiled.py", "postgresql": _HERE / "postgresql" / "compiled.py"}


class _WithHints(SQLiteCompiler):
    """SQLAlchemy leaves hints out for SQLite, which knows one: INDEXED BY."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        return text


_SQLITE = sqlite(paramstyle="named")
_SQLITE.statement_compiler = _WithHints
_DIALECTS: dict[str, Dialect] = {"sqlite": _SQLITE, "postgresql": psycopg.dialect()}  # type: ignore[no-untyped-call]

# What creates the tables of PostgreSQL, after them. A table that was never analysed has its queue sorted for
# each claim, and the default waits for a tenth of the rows.
_TUNING = [
    f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02, "
    "autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 200)"
    for table in ("jobs", "attempts", "events", "client_shares")
]


def compiled(core: Any, dialect: str = "sqlite") -> tuple[str, Values]:
    """The text, and the values of it that are always the same. An INSERT or UPDATE that says no values has
    COLUMNS in their place; a list of values is a marker that the connection fills in."""
    statement = made(core)
    is_open = isinstance(statement, Insert | Update) and not statement._values  # noqa: SLF001 - no public one
    if is_open and isinstance(statement, Insert):
        text = f"INSERT INTO {statement.table} ({COLUMNS}) VALUES ({PARAMETERS})"  # noqa: S608
        # SQLite's driver tells the number of a new row by itself.
        return f"{text} RETURNING seq" if dialect != "sqlite" and "seq" in statement.table.c else text, {}
    any_column = next(iter(statement.table.c)).name if is_open else ""
    result = statement.compile(dialect=_DIALECTS[dialect], column_keys=[any_column] if is_open else None)
    text = " ".join(str(result).split())
    params = {name: value for name, value in result.params.items() if name != any_column}
    fixed = {name: value for name, value in params.items() if value is not None}
    if is_open:
        text = re.sub(rf"SET {any_column}=\S+", f"SET {COLUMNS}", text, count=1)
    return text, fixed


def statements() -> Iterator[Any]:
    """Every statement of the store's modules, and the pages that clients often ask for."""
    for module in iter_modules(comfy_mcp.store.__path__):
        if module.name in {"compiling", "compiled", "core", "migrations", "sqlite", "postgresql"}:
            continue
        for value in vars(import_module(f"comfy_mcp.store.{module.name}")).values():
            several = value if isinstance(value, tuple) else (value,)
            yield from (each.core for each in several if isinstance(each, Statement))
    for names in OFTEN:
        yield reads.PAGES.statement(*names).core
    for names in OFTEN_OF_OUTPUTS:
        yield outputs.PAGES.statement(*names).core


def tables(dialect: str = "sqlite") -> list[str]:
    """What creates an empty store."""
    made_of: list[Any] = []
    for table in [*schema.metadata.sorted_tables, schema.alembic_version]:
        made_of += [
            CreateTable(table),
            *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name))),
        ]
    created = [" ".join(str(each.compile(dialect=_DIALECTS[dialect])).split()) for each in made_of]
    return created + (_TUNING if dialect == "postgresql" else [])


def written(dialect: str) -> str:
    """What its `compiled.py` has to say."""
    found = {digest_of(core): compiled(core, dialect) for core in statements()}
    sql = "\n".join(f"    {digest!r}: {found[digest]!r}," for digest in sorted(found))
    creating = "\n".join(f"    {each!r}," for each in tables(dialect))
    return f"""\
\"\"\"SQL: statements by their digest, and what creates a store. `make statements` writes this.\"\"\"

# fmt: off
# ruff: noqa: E501

from typing import Any

HEAD = {schema.HEAD!r}

SQL: dict[str, tuple[str, dict[str, Any]]] = {{
{sql}
}}

TABLES = [
{creating}
]
"""


if __name__ == "__main__":
    for name, file in FILES.items():
        file.write_text(written(name), encoding="utf-8")
