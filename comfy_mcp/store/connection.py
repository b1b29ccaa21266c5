"""A connection of the database's own driver, on which statements run that were compiled once.

Statements are SQLAlchemy's Core objects, so that the same ones serve every database. What SQLAlchemy does at
each execution is not needed here, and costs three times what SQLite itself takes.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.store.compiled import SQL
from comfy_mcp.store.core import Deferred, digest_of

if TYPE_CHECKING:
    from comfy_mcp.store.core import Core

T = TypeVar("T")

Values = Mapping[str, Any]

AnyRow = Any
"""A named tuple with the columns of the statement that brought it."""

_NONE: Values = {}
_LIST = re.compile(r"__\[POSTCOMPILE_(\w+)\]")
_NO_VALUES = "SELECT 1 FROM (SELECT 1) WHERE 1!=1"


@dataclass(slots=True)
class _Plan:
    """What the driver gets. `row` makes a row of a tuple; the first result gives the columns."""

    text: str
    fixed: Values
    lists: tuple[str, ...] = ()
    row: Callable[[Sequence[Any]], AnyRow] | None = None

    def bound(self, values: Values) -> tuple[str, Values]:
        """The text and what is bound to it."""
        if self.lists:
            return _with_lists(self.text, {**self.fixed, **values}, self.lists)
        return self.text, {**self.fixed, **values} if self.fixed else values


def _with_lists(text: str, values: Values, lists: Iterable[str]) -> tuple[str, Values]:
    """Each value of a list has a parameter of its own."""
    bound = {name: value for name, value in values.items() if name not in lists}
    for name in lists:
        each = {f"{name}_{number}": value for number, value in enumerate(values[name], start=1)}
        bound |= each
        text = text.replace(f"__[POSTCOMPILE_{name}]", ", ".join(f":{one}" for one in each) or _NO_VALUES)
    return text, bound


@dataclass(slots=True)
class Statement:
    """A Core object. Its SQL is found in `compiled.py`, or compiled at its first use; that of an INSERT or
    UPDATE without values of its own has the columns filled in which a use gives."""

    core: "Core"
    _plans: dict[tuple[str, ...], _Plan] = field(default_factory=dict)
    _sql: tuple[str, Values] | None = None
    _is_open: bool = False

    def plan(self, values: Values) -> _Plan:
        if self._sql is None:
            self._sql = sql_of(self.core)
            self._is_open = COLUMNS in self._sql[0]
        key = tuple(values) if self._is_open else ()
        plan = self._plans.get(key)
        if plan is None:
            text, fixed = self._sql
            lists = set(_LIST.findall(text))
            text, bound = _with_lists(text, fixed, lists & fixed.keys())
            text = _with_columns(text, values) if self._is_open else text
            plan = self._plans[key] = _Plan(text, bound, tuple(lists - fixed.keys()))
        return plan


COLUMNS, PARAMETERS = "{columns}", "{parameters}"


def sql_of(core: "Core | Deferred") -> tuple[str, Values]:
    """A statement's text, and the values of it that are always the same."""
    if isinstance(core, Deferred) and (known := SQL.get(digest_of(core))) is not None:
        return known
    from comfy_mcp.store.compiling import compiled  # it imports SQLAlchemy

    return compiled(core)


def _with_columns(text: str, values: Values) -> str:
    """The columns are those of the values that are no parameter of the text."""
    parameters = set(_PARAMETER.findall(text))
    columns = [name for name in values if name not in parameters]
    if text.startswith("UPDATE"):
        return text.replace(COLUMNS, ", ".join(f'"{name}"=:{name}' for name in columns))
    names, places = (", ".join(form % name for name in columns) for form in ('"%s"', ":%s"))
    return text.replace(COLUMNS, names).replace(PARAMETERS, places)


_PARAMETER = re.compile(r":(\w+)")


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
    blocked: int | None = None
    """Jobs that wait for others, likewise."""
    ended: list[JobId] | None = None
    """Jobs that ended while what follows from an end is written: they are next (`chains`)."""


class Pages:
    """Rows of a statement under any of its conditions, each with a value of the same name."""

    def __init__(self, core: Any, conditions: Mapping[str, Any]) -> None:
        self._core = core
        self._conditions = conditions
        self._statements: dict[tuple[str, ...], Statement] = {}

    def statement(self, *names: str) -> Statement:
        if names not in self._statements:
            conditions = [self._conditions[name] for name in names]
            self._statements[names] = Statement(self._core.where(*conditions) if names else self._core)
        return self._statements[names]

    def rows(self, connection: "Connection", wanted: Values, count: int) -> list[AnyRow]:
        """At most `count` of those that match every value of `wanted`; None stands for any."""
        values = {name: value for name, value in wanted.items() if value is not None}
        return connection.execute(self.statement(*values), {**values, "b_limit": count}).rows


class Connection:
    """`begin` is what starts a transaction. One thread at a time may use it."""

    def __init__(self, driver_connection: Any, *, begin: str = "BEGIN") -> None:
        self.driver_connection = driver_connection
        self.notes = Notes()
        self._begin = begin
        self._cursor = driver_connection.cursor()

    def execute(self, statement: "Statement | Core", values: Values = _NONE) -> Result:
        """A Core object that is made for one use is compiled for it, if nobody has done so before."""
        plan = (statement if isinstance(statement, Statement) else Statement(statement)).plan(values)
        cursor = self._cursor
        cursor.execute(*plan.bound(values))
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

    def within(self, work: Callable[["Connection"], T]) -> T:
        """The result of `work`, run in a transaction."""
        self.begin()
        try:
            result = work(self)
            self._cursor.execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                self._cursor.execute("ROLLBACK")
            raise
        return result

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
