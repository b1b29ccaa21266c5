"""What SQLite's errors are called for people, and what to do about each."""

import sqlite3
from pathlib import Path

import pytest

from comfy_mcp.store.sqlite.faults import fault_of

STORE = Path("/srv/bridge.sqlite3")


@pytest.mark.parametrize(
    ("code", "said", "next_step"),
    [
        (sqlite3.SQLITE_BUSY, "has locked the store", "Try again"),
        (sqlite3.SQLITE_FULL, "is full", "Free disk space"),
        (sqlite3.SQLITE_IOERR, "can't be read or written (disk I/O error)", "full, damaged or gone"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "can't be read or written (disk I/O error)", "Free space"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "can't be written", "COMFY_BRIDGE_STATE_DIR"),
        (sqlite3.SQLITE_NOTADB, "is damaged", "Stop every process"),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, "refused a write", "bug"),
        (sqlite3.SQLITE_MISUSE, "failed (OperationalError)", "log"),
    ],
)
def test_each_kind_of_error_has_its_words_and_a_next_step(code: int, said: str, next_step: str) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    fault = fault_of(error, STORE)
    assert said in str(fault)
    assert str(STORE) in str(fault)
    assert next_step in fault.next_step
