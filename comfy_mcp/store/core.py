"""SQLAlchemy's Core and the tables, as names that import SQLAlchemy only when a statement has to be compiled.

A statement that is built of them is a description. Its SQL is in `compiled.py`, found by that description, so
a process that runs no other statement spares the import: 15 MB and 0.2 s. Type checkers see the real thing.
"""

# ruff: noqa: TC004 - only type checkers import them

from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import (
        CompoundSelect,
        Delete,
        Insert,
        Integer,
        Select,
        Update,
        and_,
        bindparam,
        case,
        delete,
        exists,
        false,
        func,
        insert,
        literal,
        literal_column,
        or_,
        select,
        tuple_,
        update,
    )

    from comfy_mcp.store.schema import (
        IS_ACTIVE,
        IS_DELIVERED,
        IS_ELSEWHERE,
        IS_FIRST,
        IS_HELD,
        IS_PENDING,
        IS_QUEUED,
        IS_UNDELIVERED,
        MAY_EXPIRE,
        ONE,
        alembic_version,
        api_keys,
        attempts,
        client_shares,
        deliveries,
        engine_leases,
        events,
        file_hashes,
        graphs,
        idempotency_keys,
        job_parents,
        job_tags,
        jobs,
        node_durations,
        now_ms,
        outputs,
        passed_over,
        spending,
        vram_shapes,
        webhooks,
    )

    Core = Select[*tuple[Any, ...]] | CompoundSelect[*tuple[Any, ...]] | Insert | Update | Delete

__all__ = [
    "IS_ACTIVE",
    "IS_DELIVERED",
    "IS_ELSEWHERE",
    "IS_FIRST",
    "IS_HELD",
    "IS_PENDING",
    "IS_QUEUED",
    "IS_UNDELIVERED",
    "MAY_EXPIRE",
    "ONE",
    "Core",
    "Deferred",
    "Integer",
    "alembic_version",
    "and_",
    "api_keys",
    "attempts",
    "bindparam",
    "case",
    "client_shares",
    "delete",
    "deliveries",
    "described",
    "digest_of",
    "engine_leases",
    "events",
    "exists",
    "false",
    "file_hashes",
    "func",
    "graphs",
    "idempotency_keys",
    "insert",
    "job_parents",
    "job_tags",
    "jobs",
    "literal",
    "literal_column",
    "made",
    "node_durations",
    "now_ms",
    "or_",
    "outputs",
    "passed_over",
    "select",
    "spending",
    "tuple_",
    "update",
    "vram_shapes",
    "webhooks",
]


class Deferred:
    """An expression that is written down: a name, or what is done with another one."""

    __slots__ = ("__how", "__made", "__parts")

    def __init__(self, how: str, *parts: Any) -> None:
        self.__how = how
        self.__parts = parts
        self.__made: Any = None

    def __getattr__(self, name: str) -> "Deferred":
        if name.startswith("__"):
            raise AttributeError(name)
        return Deferred("attribute", self, name)

    def __call__(self, *arguments: Any, **named: Any) -> "Deferred":
        return Deferred("call", self, arguments, named)

    def __iter__(self) -> Any:
        raise TypeError("a deferred expression has no parts yet")

    def __bool__(self) -> bool:
        raise TypeError("a deferred expression is neither true nor false")

    def __make__(self) -> Any:
        """By SQLAlchemy, once: two uses of it are one object."""
        if self.__made is None:
            base, *rest = self.__parts
            match self.__how:
                case "name":
                    self.__made = getattr(import_module(base), *rest)
                case "attribute":
                    self.__made = getattr(made(base), *rest)
                case "operator":
                    self.__made = getattr(made(base), rest[0])(*map(made, rest[1]))
                case _:
                    named = {name: made(value) for name, value in rest[1].items()}
                    self.__made = made(base)(*map(made, rest[0]), **named)
        return self.__made

    def __describe__(self) -> str:
        base, *rest = self.__parts
        match self.__how:
            case "name":
                return str(rest[0])
            case "attribute":
                return f"{described(base)}.{rest[0]}"
            case "operator":
                return f"{described(base)}.{rest[0]}({','.join(map(described, rest[1]))})"
            case _:
                named = [f"{name}={described(value)}" for name, value in rest[1].items()]
                return f"{described(base)}({','.join([*map(described, rest[0]), *named])})"


def _operator(name: str) -> Any:
    def apply(self: Deferred, *others: Any) -> Deferred:
        return Deferred("operator", self, name, others)

    return apply


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "radd", "sub", "rsub", "and", "or", "invert"):
    setattr(Deferred, f"__{_name}__", _operator(f"__{_name}__"))
Deferred.__hash__ = object.__hash__  # type: ignore[method-assign]  # lost with the __eq__ of above


def made(part: Any) -> Any:
    """The part itself; what was deferred is made."""
    if isinstance(part, Deferred):
        return part.__make__()
    return type(part)(map(made, part)) if isinstance(part, tuple | list) else part


def described(part: Any) -> str:
    """The same text for the same expression; another for every other."""
    if isinstance(part, Deferred):
        return part.__describe__()
    return f"[{','.join(map(described, part))}]" if isinstance(part, tuple | list) else repr(part)


def digest_of(expression: Deferred) -> str:
    """By it its SQL is found."""
    return sha256(described(expression).encode()).hexdigest()[:16]


_SQLALCHEMY = (
    "Integer and_ bindparam case delete exists false func insert literal literal_column or_ select tuple_ "
    "update"
)
for _name in {*__all__} - {*globals(), "Core"}:
    _module = "sqlalchemy" if _name in _SQLALCHEMY.split() else "comfy_mcp.store.schema"
    globals()[_name] = Deferred("name", _module, _name)
