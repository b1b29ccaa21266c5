"""A connection of the database's own driver, on which statements run that were compiled once.

Statements are SQLAlchemy's Core objects, so that the same ones serve every database. What SQLAlchemy does at
each execution is not needed here, and costs three times what SQLite itself takes.
"""

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Insert, Select, Update
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from comfy_mcp.domain.events import StoredEvent

Core = Select[*tuple[Any, ...]] | Insert | Update | Delete
Values = Mapping[str, Any]

AnyRow = Any
"""A named tuple with the columns of the statement that brought it."""

_DIALECT = sqlite_dialect(paramstyle="named")
_NONE: Values = {}


@dataclass(slots=True)
class _Plan:
    """What the driver gets. `row` makes a row of a tuple, once the first result has told the columns."""

    text: str
    fixed: Values
    row: Callable[[Sequence[Any]], AnyRow] | None = None


class Statement:
    """A Core object, compiled at its first use; an INSERT or UPDATE once for each set of columns."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._by_columns = isinstance(core, Insert | Update)
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def plan(self, values: Values) -> _Plan:
        key = tuple(values) if self._by_columns else ()
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = _compiled(self.core, values)
        return plan


def _compiled(core: Core, values: Values) -> _Plan:
    compiled = core.compile(dialect=_DIALECT, column_keys=list(values) or None)
    known = {name: value for name, value in compiled.params.items() if name not in values}
    state = compiled.construct_expanded_state({**known, **values})  # IN lists, one parameter for each value
    fixed = {name: value for name, value in state.parameters.items() if name not in values}
    return _Plan(text=state.statement, fixed=fixed)


@dataclass(frozen=True, slots=True)
class Result:
    """All rows at once: what may bring many is limited by its statement."""

    rows: list[AnyRow]
    rowcount: int
    lastrowid: int

    def __iter__(self) -> Iterator[AnyRow]:
        return iter(self.rows)

    def all(self) -> list[AnyRow]:
        return self.rows

    def first(self) -> AnyRow | None:
        return self.rows[0] if self.rows else None

    def one(self) -> AnyRow:
        (row,) = self.rows
        return row

    def scalar(self) -> Any:
        return self.rows[0][0] if self.rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalars(self) -> list[Any]:
        return [row[0] for row in self.rows]


@dataclass(slots=True)
class QueueSize:
    """Queued jobs, and how many of them are claimed but have not started."""

    jobs: int
    claimed: int


@dataclass(slots=True)
class Notes:
    """What the pieces of one transaction leave for each other and for whoever committed it."""

    appended: tuple[StoredEvent, ...] = ()
    """Events of this transaction, in order: for whoever follows the log."""
    queue_sizes: dict[tuple[str, int], QueueSize] | None = None
    """By lane and priority, as long as nothing but submits has changed them."""


class Connection:
    """`begin` is what starts a transaction. One thread at a time may use it."""

    def __init__(self, driver_connection: Any, *, begin: str = "BEGIN") -> None:
        self.driver_connection = driver_connection
        self.notes = Notes()
        self._begin = begin
        self._cursor = driver_connection.cursor()

    def execute(self, statement: Statement | Core, values: Values = _NONE) -> Result:
        """A Core object that is made for one use is compiled for it."""
        plan = statement.plan(values) if isinstance(statement, Statement) else _compiled(statement, values)
        cursor = self._cursor
        cursor.execute(plan.text, {**plan.fixed, **values} if plan.fixed else values)
        if cursor.description is None:
            return Result([], cursor.rowcount, cursor.lastrowid)
        if plan.row is None:
            plan.row = _row_type(cursor.description)
        return Result(list(map(plan.row, cursor.fetchall())), cursor.rowcount, 0)

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        self._cursor.executemany(statement.plan(rows[0]).text, rows)

    def exec_driver_sql(self, text: str, values: Sequence[Any] | Values = ()) -> Result:
        """SQL in the database's own words."""
        cursor = self._cursor.execute(text, values)
        if cursor.description is None:
            return Result([], cursor.rowcount, cursor.lastrowid)
        return Result(list(map(_row_type(cursor.description), cursor.fetchall())), cursor.rowcount, 0)

    # ------------------------------------------------------------------------------------------ transactions

    def begin(self) -> None:
        self.notes = Notes()
        self._cursor.execute(self._begin)

    @property
    def in_transaction(self) -> bool:
        """False once the database has ended it by itself, as SQLite does when the disk is full."""
        return bool(self.driver_connection.in_transaction)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.begin()
        try:
            yield
            self._cursor.execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                self._cursor.execute("ROLLBACK")
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What was done inside is undone if it raises, and nothing else."""
        self._cursor.execute("SAVEPOINT piece")
        try:
            yield
        except BaseException:
            if self.in_transaction:
                self._cursor.execute("ROLLBACK TO piece")
                self._cursor.execute("RELEASE piece")
            raise
        self._cursor.execute("RELEASE piece")

    def close(self) -> None:
        self.driver_connection.close()


def _row_type(description: Sequence[Sequence[Any]]) -> Callable[[Sequence[Any]], AnyRow]:
    named: Any = namedtuple  # the columns are known at run time only
    columns = [column[0] for column in description]
    make: Callable[[Sequence[Any]], AnyRow] = named("Row", columns, rename=True)._make
    return make
