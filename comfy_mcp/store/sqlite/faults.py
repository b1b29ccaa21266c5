"""Database errors translated where they arise: nothing above the store sees the driver's."""

import time
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from types import TracebackType

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.errors import ErrorCode, StoreFault


class ResultCode(IntEnum):
    """SQLite's primary result codes that have a meaning here (https://www.sqlite.org/rescode.html)."""

    PERM = 3
    BUSY = 5
    LOCKED = 6
    READONLY = 8
    IOERR = 10
    CORRUPT = 11
    FULL = 13
    CANTOPEN = 14
    CONSTRAINT = 19
    NOTADB = 26


_met: Bounded[Path, tuple[float, StoreFault]] = Bounded(64)
"""The last fault of each store file, and when (monotonic seconds)."""


def met_within(path: Path, seconds: float) -> StoreFault | None:
    """The last fault that the database or the system gave about the file, if it is no older than that."""
    at, fault = _met.get(path, (float("-inf"), None))
    return fault if time.monotonic() - at <= seconds else None


def _note(path: Path, fault: StoreFault) -> StoreFault:
    if fault.code is not ErrorCode.INTERNAL:  # a write that the tables refused is no fault of the disk
        _met[path] = (time.monotonic(), fault)
    return fault


class translated:  # noqa: N801 - it reads as the function that it would be, and costs a third of that
    """Raises StoreFault for whatever the database or the operating system says about the file at `path`."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            _translate(self._path, error)


def _translate(path: Path, error: BaseException) -> None:
    if isinstance(error, OSError):
        raise _note(
            path,
            StoreFault(
                f"The store at {path} can't be used: {error.strerror or type(error).__name__}.",
                next_step="Set COMFY_BRIDGE_STATE_DIR to a local folder that this user may write to.",
            ),
        ) from error
    if isinstance(error, Exception) and is_of_driver(error):
        fault = _note(path, fault_of(error, path))
        if fault.code is ErrorCode.STORE_CORRUPT:
            with suppress(OSError):
                suspicion(path).touch(mode=0o600)
        raise fault from error


def suspicion(path: Path) -> Path:
    """A file beside the store: damage was found, so the next open checks all of it, however large."""
    return path.with_name(f"{path.name}.suspect")


def fault_of(error: Exception, path: Path) -> StoreFault:
    match primary_code(error):
        case ResultCode.BUSY | ResultCode.LOCKED:
            return StoreFault(
                f"Another process has locked the store at {path} for too long.",
                next_step="Try again. If it happens again, find the process that has the file open.",
            )
        case ResultCode.FULL:
            return StoreFault(
                f"The disk of the store at {path} is full; nothing was written.",
                next_step="Free disk space (or move COMFY_BRIDGE_STATE_DIR), then try again.",
            )
        case ResultCode.IOERR:
            return StoreFault(
                f"The disk of the store at {path} can't be read or written ({error}).",
                next_step="Is it full, damaged or gone? Free space, or move COMFY_BRIDGE_STATE_DIR.",
            )
        case ResultCode.PERM | ResultCode.READONLY | ResultCode.CANTOPEN:
            return StoreFault(
                f"The store at {path} can't be written: no permission, or a read-only file system.",
                next_step="Set COMFY_BRIDGE_STATE_DIR to a local folder that this user may write to.",
            )
        case ResultCode.CORRUPT | ResultCode.NOTADB:
            return StoreFault(
                f"The store at {path} is damaged.",
                next_step="Stop every process that uses it and start again: the file is then renamed.",
                code=ErrorCode.STORE_CORRUPT,
            )
        case _:
            refused = primary_code(error) == ResultCode.CONSTRAINT
            return StoreFault(
                f"The store at {path} refused a write."
                if refused
                else f"The store at {path} failed ({type(error).__name__}).",
                next_step="This is a bug: report it with the log." if refused else "Try again; see the log.",
                code=ErrorCode.INTERNAL if refused else ErrorCode.STORE_UNAVAILABLE,
            )


def is_of_driver(error: Exception) -> bool:
    """Whether the database's driver raised it, whichever of the two that is."""
    return any(
        each.__name__ == "Error" and each.__module__.partition(".")[0] in {"sqlite3", "pysqlite3"}
        for each in type(error).__mro__
    )


def is_busy(error: Exception) -> bool:
    """Somebody else holds the lock."""
    return primary_code(error) in {ResultCode.BUSY, ResultCode.LOCKED}


def primary_code(error: BaseException) -> int | None:
    """SQLite's primary result code; None where the error is no database's."""
    extended = getattr(error, "sqlite_errorcode", None)
    return extended & 0xFF if isinstance(extended, int) else None
