"""A connection of the database's own driver, on which statements run that were compiled once.

Statements are SQLAlchemy's Core objects, so that the same ones serve every database. What SQLAlchemy does at
each execution is not needed here, and costs three times what SQLite itself takes.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.store import compiled
from comfy_mcp.store.core import Deferred, digest_of

if TYPE_CHECKING:
    from comfy_mcp.store.core import Core

T = TypeVar("T")

Values = Mapping[str, Any]

AnyRow = Any
"""A named tuple with the columns of the statement that brought it."""

KEPT = 64
"""Plans of one statement: by its columns, or by its limits, which clients choose."""

_NONE: Values = {}
_LIST = re.compile(r"__\[POSTCOMPILE_(\w+)\]")
_LIMIT = re.compile(r"\bLIMIT :(\w+)")
_NO_VALUES = "SELECT NULL WHERE 1!=1"
COLUMNS, PARAMETERS, NEW = "{columns}", "{parameters}", "{new}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database is spoken to: `parameter` has a parameter's name as its first group, `known` the SQL by
    digest that need not be compiled."""

    name: str
    place: str
    parameter: re.Pattern[str]
    known: Mapping[str, tuple[str, Values]]


SQLITE = Dialect(name="sqlite", place=":%s", parameter=re.compile(r":(\w+)"), known=compiled.SQL)


@dataclass(slots=True)
class Plan:
    """What the driver gets. `row` makes a row of a tuple; the first result gives the columns."""

    dialect: Dialect
    text: str
    fixed: Values
    lists: tuple[str, ...] = ()
    row: Callable[[Sequence[Any]], AnyRow] | None = None

    def bound(self, values: Values) -> tuple[str, Values]:
        """The text and what is bound to it."""
        if self.lists:
            return _with_lists(self.dialect, self.text, {**self.fixed, **values}, self.lists)
        return self.text, {**self.fixed, **values} if self.fixed else values


def _with_lists(dialect: Dialect, text: str, values: Values, lists: Iterable[str]) -> tuple[str, Values]:
    """Each value of a list has a parameter of its own."""
    bound = {name: value for name, value in values.items() if name not in lists}
    for name in lists:
        each = {f"{name}_{number}": value for number, value in enumerate(values[name], start=1)}
        bound |= each
        places = ", ".join(dialect.place % one for one in each)
        text = text.replace(f"__[POSTCOMPILE_{name}]", places or _NO_VALUES)
    return text, bound


@dataclass(slots=True)
class _Plans:
    """Of one statement in one dialect."""

    text: str
    fixed: Values
    is_open: bool
    limits: tuple[str, ...]
    of: Bounded[tuple[str | int | None, ...], Plan] = field(default_factory=lambda: Bounded(KEPT))


@dataclass(slots=True)
class Statement:
    """A Core object. Its SQL is found by its digest, or compiled at its first use; that of an INSERT or
    UPDATE without values of its own has the columns filled in which a use gives. `on_conflict`: of an INSERT,
    what to do where its row is there already, as SQL that both databases have; `{new}` are all values.

    A LIMIT is written out for SQLite, which compiles a statement anew at each use where that is a parameter.
    """

    core: "Core"
    on_conflict: str = ""
    _plans: dict[str, _Plans] = field(default_factory=dict)

    def plan(self, values: Values, dialect: Dialect = SQLITE, rows: int = 1) -> Plan:
        """Of an INSERT of several `rows`, the values of each have its number behind their names (`numbered`),
        from the second on."""
        try:
            plans = self._plans[dialect.name]
        except KeyError:
            plans = self._plans[dialect.name] = self._sql(dialect)
        key: tuple[str | int | None, ...] = ()
        if plans.is_open:
            key = (*values, rows) if rows > 1 else tuple(values)
        elif plans.limits:
            key = tuple(values.get(name) for name in plans.limits)
        try:
            return plans.of[key]
        except KeyError:
            lists = set(_LIST.findall(plans.text))
            text, bound = _with_lists(dialect, plans.text, plans.fixed, lists & plans.fixed.keys())
            text = _with_columns(dialect, text, values, rows) if plans.is_open else text
            text = _with_limits(text, values) if plans.limits else text
            plan = plans.of[key] = Plan(dialect, text, bound, tuple(lists - plans.fixed.keys()))
            return plan

    def _sql(self, dialect: Dialect) -> _Plans:
        text, fixed = sql_of(self.core, dialect)
        text += f" ON CONFLICT {self.on_conflict}" if self.on_conflict else ""
        text = _with_limits(text, fixed)
        limits = tuple(sorted({*_LIMIT.findall(text)}))
        return _Plans(text, fixed, COLUMNS in text, limits)


def sql_of(core: "Core | Deferred", dialect: Dialect = SQLITE) -> tuple[str, Values]:
    """A statement's text, and the values of it that are always the same."""
    if isinstance(core, Deferred) and (known := dialect.known.get(digest_of(core))) is not None:
        return known
    from comfy_mcp.store.compiling import compiled  # it imports SQLAlchemy

    return compiled(core, dialect.name)


def _with_limits(text: str, values: Values) -> str:
    """Written out, where they are known."""
    return _LIMIT.sub(
        lambda found: f"LIMIT {int(values[found[1]])}" if found[1] in values else found[0], text
    )


def numbered(rows: Sequence[Values]) -> Values:
    """The values of several rows with the same columns, for one statement."""
    more = {f"{name}_{number}": row[name] for number, row in enumerate(rows[1:], start=1) for name in row}
    return {**rows[0], **more}


def _with_columns(dialect: Dialect, text: str, values: Values, rows: int) -> str:
    """The columns are those of the values that are no parameter of the text."""
    parameters = set(dialect.parameter.findall(text))
    columns = [name for name in values if name not in parameters]
    places = [dialect.place % name for name in columns]
    if text.startswith("UPDATE"):
        pairs = zip(columns, places, strict=True)
        return text.replace(COLUMNS, ", ".join(f'"{name}"={place}' for name, place in pairs))
    names = [f'"{name}"' for name in columns]
    new = ", ".join(f"{name}=excluded.{name}" for name in names)
    more = [[dialect.place % f"{name}_{number}" for name in columns] for number in range(1, rows)]
    every = "), (".join(map(", ".join, (places, *more)))
    return text.replace(COLUMNS, ", ".join(names)).replace(PARAMETERS, every).replace(NEW, new)


@dataclass(slots=True)
class Result:
    """All rows at once: what may bring many is limited by its statement."""

    rows: list[AnyRow]
    rowcount: int

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
class QueueCount:
    """How many jobs wait: for a turn, by lane and priority, and for other jobs. `at`: ms since 1970."""

    sizes: dict[tuple[str, int], QueueSize]
    blocked: int
    at: int

    @property
    def queued(self) -> int:
        return sum(size.jobs for size in self.sizes.values())

    @property
    def total(self) -> int:
        return self.queued + self.blocked


@dataclass(slots=True)
class Notes:
    """What the pieces of one transaction leave for each other and for whoever committed it."""

    appended: tuple[StoredEvent, ...] = ()
    """Events of this transaction, in order: for whoever follows the log."""
    count: QueueCount | None = None
    """As long as nothing but submits has changed it."""
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

    dialect = SQLITE

    def __init__(self, driver_connection: Any, *, begin: str = "BEGIN") -> None:
        self.driver_connection = driver_connection
        self.notes = Notes()
        self.long_count: QueueCount | None = None
        """The last count of a queue that is too long to be counted in each transaction."""
        self._begin = begin
        self._cursor = driver_connection.cursor()

    def execute(self, statement: "Statement | Core", values: Values = _NONE) -> Result:
        """A Core object that is made for one use is compiled for it, if nobody has done so before."""
        plan = (statement if isinstance(statement, Statement) else Statement(statement)).plan(
            values, self.dialect
        )
        cursor = self._cursor
        cursor.execute(*plan.bound(values))
        if cursor.description is None:
            return Result([], cursor.rowcount)
        if plan.row is None:
            plan.row = row_type(cursor.description)
        return Result(list(map(plan.row, cursor.fetchall())), cursor.rowcount)

    def append(self, statement: Statement, rows: Sequence[Values]) -> Sequence[int]:
        """Insert rows of a table that numbers them; their numbers, in order."""
        cursor = self._cursor
        cursor.execute(statement.plan(rows[0], self.dialect, len(rows)).text, numbered(rows))
        return range(cursor.lastrowid - len(rows) + 1, cursor.lastrowid + 1)  # nobody else writes meanwhile

    def send(self, statement: Statement, values: Values = _NONE) -> None:
        """`execute` for which nobody needs an answer. A server gets it with what is executed next, and what
        is wrong with it is raised there."""
        self._cursor.execute(*statement.plan(values, self.dialect).bound(values))

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        self._cursor.executemany(statement.plan(rows[0], self.dialect).text, rows)

    def exec_driver_sql(self, text: str, values: Sequence[Any] | Values = ()) -> Result:
        """SQL in the database's own words."""
        cursor = self._cursor.execute(text, values)
        if cursor.description is None:
            return Result([], cursor.rowcount)
        return Result(list(map(row_type(cursor.description), cursor.fetchall())), cursor.rowcount)

    # ------------------------------------------------------------------------------------------ transactions

    def begin(self) -> None:
        self.notes = Notes()
        self._control(self._begin)

    @property
    def is_lost(self) -> bool:
        """It can't be used any more: the next transaction needs another one."""
        return False

    @property
    def in_transaction(self) -> bool:
        """False once the database has ended it by itself, as SQLite does when the disk is full."""
        return bool(self.driver_connection.in_transaction)

    def within(self, work: Callable[["Connection"], T]) -> T:
        """The result of `work`, run in a transaction."""
        self.begin()
        return self.finish(work)

    def finish(self, work: Callable[["Connection"], T]) -> T:
        """The same in a transaction that has begun."""
        try:
            result = work(self)
            self._commit()
        except BaseException:
            if self.in_transaction:
                self._roll_back()
            raise
        return result

    def _roll_back(self) -> None:
        self._control("ROLLBACK")

    def _commit(self) -> None:
        self._control("COMMIT")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What was done inside is undone if it raises, and nothing else."""
        self._control("SAVEPOINT piece")
        try:
            yield
            self._answers()
        except BaseException:
            if self.in_transaction:
                self._undo()
            raise
        self._control("RELEASE piece")

    def _undo(self) -> None:
        self._control("ROLLBACK TO piece")
        self._control("RELEASE piece")

    def _control(self, text: str) -> None:
        self._cursor.execute(text)

    def _answers(self) -> None:
        """Of all that was sent."""

    def close(self) -> None:
        self.driver_connection.close()


def row_type(description: Sequence[Sequence[Any]]) -> Callable[[Sequence[Any]], AnyRow]:
    named: Any = namedtuple  # the columns are known at run time only
    columns = [column[0] for column in description]
    return partial(tuple.__new__, named("Row", columns, rename=True))  # `_make` counts the values again
