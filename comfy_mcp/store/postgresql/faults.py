"""What PostgreSQL and its driver say, as the store's faults. Nothing of it has the password."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from comfy_mcp.domain.errors import ErrorCode, StoreFault

_DENIED = (errors.InsufficientPrivilege, errors.InvalidAuthorizationSpecification, errors.UndefinedFile)
_READ_ONLY = (errors.ReadOnlySqlTransaction,)
_FULL = (errors.DiskFull, errors.OutOfMemory, errors.InsufficientResources)
_BUSY = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected, errors.SerializationFailure)


class Faults:
    """Of one database, shown as `where`."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._met: tuple[float, StoreFault] | None = None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raises StoreFault for whatever the database says inside."""
        try:
            yield
        except psycopg.Error as error:
            fault = fault_of(error, self._where)
            if fault.code is not ErrorCode.INTERNAL:
                self._met = (time.monotonic(), fault)
            raise fault from error

    def met_within(self, seconds: float) -> StoreFault | None:
        met = self._met
        return met[1] if met is not None and time.monotonic() - met[0] <= seconds else None


def fault_of(error: psycopg.Error, where: str) -> StoreFault:
    if isinstance(error, psycopg.IntegrityError | psycopg.ProgrammingError | psycopg.DataError) and not (
        isinstance(error, _DENIED)
    ):
        return StoreFault(
            f"The store at {where} refused a statement ({type(error).__name__}).",
            next_step="This is a bug: report it with the log.",
            code=ErrorCode.INTERNAL,
        )
    message, next_step = (
        f"The store at {where} can't be reached.",
        "See that the server runs; then try again.",
    )
    if isinstance(error, _BUSY):
        message = f"Another process has locked the store at {where} for too long."
        next_step = "Try again. If it happens again, look at pg_stat_activity for who holds the lock."
    elif isinstance(error, _FULL):
        message = f"The server of the store at {where} has no room left; nothing was written."
        next_step = "Free disk space or memory there, then try again."
    elif isinstance(error, _READ_ONLY):
        message = f"The store at {where} can't be written: the server is read-only, as a standby is."
        next_step = "Add `target_session_attrs=read-write` to COMFY_BRIDGE_STORE, with all hosts in it."
    elif isinstance(error, _DENIED):
        message = f"The server of the store at {where} refused this user."
        next_step = "Correct the user or the password in COMFY_BRIDGE_STORE, or grant the rights."
    elif isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        said = str(error).splitlines()[-1].strip()
        next_step = f"See that the server runs, then try again. The last answer: {said}"
    return StoreFault(message, next_step=next_step)
