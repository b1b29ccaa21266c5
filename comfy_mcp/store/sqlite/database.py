"""Opening the store's SQLite file: driver, journal, schema, damage.

The journal is WAL where the linked SQLite is 3.51.3 or newer (3.7.0-3.51.2 can corrupt a WAL that several
connections reset, https://www.sqlite.org/wal.html), otherwise TRUNCATE with synchronous=FULL. Processes with
different SQLite versions should not share a store: the older one refuses a file that is in WAL mode and in
use, but can't see that a newer one switches to WAL later.
"""

import contextlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import structlog

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store import database
from comfy_mcp.store.compiled import HEAD, TABLES
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.database import StoreInfo
from comfy_mcp.store.sqlite.faults import (
    ResultCode,
    fault_of,
    is_busy,
    met_within,
    primary_code,
    suspicion,
    translated,
)
from comfy_mcp.store.sqlite.filesystem import (
    opening_lock,
    prepare_file,
    prepare_folder,
    refuse_network,
    set_aside,
)

WAL_SAFE_FROM: tuple[int, ...] = (3, 51, 3)
CHECKED_BYTES = 8 * 2**20
"""Files up to this size are checked in full at each open (milliseconds), larger ones after damage was met."""

_AUTOCHECKPOINT_PAGES = 4000
"""SQLite's own limit, in pages of 4 KiB: the backstop of the store's checkpoints."""

_WAL_LIMIT_BYTES = _AUTOCHECKPOINT_PAGES * 4096
"""What a WAL that grew beyond it, in a burst or behind a long read, is cut to when it begins anew."""

SURE_S = 0.005
"""How old an answer may be that was read from a file that has just been replaced."""

BEGIN_WRITING = "BEGIN IMMEDIATE"

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class FileDatabase:
    """An open store file. The two connections are for the loop's own thread: they never wait for a lock, nor
    move the WAL into the file."""

    info: StoreInfo
    loop_reader: Connection
    loop_writer: Connection
    version_is_exact: bool = True
    _driver: "_Driver"
    _file: str
    _identity: tuple[int, int]
    _sure_until: float = 0.0

    def reader(self) -> Connection:
        return Connection(self._driver.connect())

    def writer(self) -> Connection:
        """Its transactions are writers from the beginning: one that turned into a writer halfway could not
        wait for another one."""
        return Connection(self._driver.connect(), begin=BEGIN_WRITING)

    def translated(self) -> translated:
        return translated(self.info.path)

    def met_within(self, seconds: float) -> StoreFault | None:
        return met_within(self.info.path, seconds)

    def check_identity(self) -> None:
        """Raises StoreFault if another file is in the store's place, as after damage was set aside:
        two processes on two files would both drive the same engine."""
        try:
            same = _identity(self._file) == self._identity
        except FileNotFoundError:
            same = False
        except OSError:
            with translated(self.info.path):
                raise
        if not same:
            raise StoreFault(
                f"The store at {self.info.path} was removed or replaced while this process used it.",
                next_step="Start the program again.",
            )
        self._sure_until = monotonic() + SURE_S

    def check_identity_lately(self) -> None:
        """The same for reads: once in SURE_S is enough."""
        if monotonic() >= self._sure_until:
            self.check_identity()

    def on_change(self, _tell: Callable[[], None]) -> bool:
        return False

    def data_version(self) -> int:
        """Changes when any connection but `loop_writer` has committed: another process, or a thread of this.

        It never waits: -1, which is no version, while the file is locked. It takes microseconds: in
        WAL mode it reads shared memory. For the loop's own thread.
        """
        try:
            (version,) = self.loop_writer.driver_connection.execute("PRAGMA data_version").fetchone()
        except self._driver.module.Error as error:
            if is_busy(error):
                return -1
            raise fault_of(error, self.info.path) from error
        return int(version)

    def sizes(self) -> dict[str, int]:
        """Bytes of the `database` and of its `wal`; 0 for what is not there. Blocking."""
        wal = self.info.path.with_name(f"{self.info.path.name}-wal")
        found = {"database": self.info.path, "wal": wal}
        return {name: path.stat().st_size if path.exists() else 0 for name, path in found.items()}

    def checkpoint(self) -> None:
        """Move what is in the WAL into the file, beside the writer and without stopping anybody.

        SQLite does it by itself too, but inside a commit that somebody waits for. Whatever is in the way is
        no error: there is a next time.
        """
        with contextlib.suppress(self._driver.module.Error):
            connection = self._driver.connect()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                connection.close()

    def close(self) -> None:
        self.loop_reader.close()
        self.loop_writer.close()


def open_file(settings: StoreGroup) -> FileDatabase:
    """See `open_database`. A damaged store that could be set aside is no error: the store starts afresh and
    `info.set_aside` names the old one."""
    path = settings.store_path
    with translated(path):
        refuse_network(path)
        prepare_folder(path)
        driver = _driver(path, settings)
        aside: Path | None = None
        if not _is_at_head(driver):
            with opening_lock(path, database.BUSY_S):
                aside = _bring_to_head(driver)
        prepare_file(path)
        suspicion(path).unlink(missing_ok=True)
        driver = _set_journal(driver)
        info = StoreInfo(
            where=str(path),
            path=path,
            driver=driver.module.__name__.partition(".")[0],
            version=f"SQLite {driver.module.sqlite_version}",
            journal_mode=driver.journal_mode,
            synchronous=driver.synchronous,
            schema_revision=HEAD,
            set_aside=aside,
        )
        return FileDatabase(
            info=info,
            loop_reader=driver.impatient("BEGIN"),
            loop_writer=driver.impatient(BEGIN_WRITING),
            _driver=driver,
            _file=str(path),
            _identity=_identity(str(path)),
        )


# ---------------------------------------------------------------------------- the driver


@dataclass(frozen=True, slots=True, kw_only=True)
class _Driver:
    module: ModuleType
    path: Path
    timeout_s: float
    journal_mode: str
    synchronous: str

    def connect(self) -> Any:
        """A driver connection on which only our own BEGIN starts a transaction."""
        connection = self.module.connect(
            str(self.path), timeout=self.timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA wal_autocheckpoint={_AUTOCHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            if self.journal_mode != "wal":  # WAL is a property of the file, the others of a connection
                connection.execute(f"PRAGMA journal_mode={self.journal_mode}")
        except BaseException:
            connection.close()
            raise
        return connection

    def impatient(self, begin: str) -> Connection:
        connection = self.connect()
        connection.execute("PRAGMA busy_timeout=0")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("SELECT count(*) FROM alembic_version").fetchone()  # read the schema now
        return Connection(connection, begin=begin)

    def bare(self, *, read_only: bool = False) -> Any:
        """A connection without our pragmas."""
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        return self.module.connect(uri, uri=True, timeout=self.timeout_s, isolation_level=None)


def _driver(path: Path, settings: StoreGroup) -> _Driver:
    try:
        module = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        module = importlib.import_module("sqlite3")
    wal = module.sqlite_version_info >= WAL_SAFE_FROM
    return _Driver(
        module=module,
        path=path,
        timeout_s=database.BUSY_S,
        journal_mode="wal" if wal else "truncate",
        synchronous=settings.store_synchronous if wal else "full",
    )


def _set_journal(driver: _Driver) -> _Driver:
    """The driver as it can be: some file systems have no shared memory and so no WAL."""
    connection = driver.bare()
    try:
        (mode,) = connection.execute(f"PRAGMA journal_mode={driver.journal_mode}").fetchone()
    except driver.module.Error as error:
        busy = is_busy(error)
        raise (_wal_in_use(driver) if busy else fault_of(error, driver.path)) from error
    finally:
        connection.close()
    if mode == driver.journal_mode:
        return driver
    if driver.journal_mode == "wal":
        return replace(driver, journal_mode="truncate", synchronous="full")
    raise _wal_in_use(driver)


def _wal_in_use(driver: _Driver) -> StoreFault:
    return StoreFault(
        f"The journal mode of the store at {driver.path} can't be set to {driver.journal_mode} while "
        "another process uses it.",
        next_step="Stop the other processes once, or use the same SQLite version for all (see doctor).",
    )


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - ahead of each transaction: a third of the cost
    return status.st_dev, status.st_ino


# ---------------------------------------------------------------------------- the schema


def _is_at_head(driver: _Driver) -> bool:
    """Raises StoreFault; a schema that is newer is refused here, without the lock: nothing will be done."""
    try:
        revision = _revision(driver)
    except StoreFault as fault:
        if fault.code is not ErrorCode.STORE_CORRUPT:
            raise
        return False  # looked at again under the lock
    if revision not in {None, HEAD}:
        _check_known(driver.path, str(revision))
    return revision == HEAD


def _bring_to_head(driver: _Driver) -> Path | None:
    """Under the opening lock: set a damaged file aside, then create or migrate. The old file's name."""
    revision, aside = _revision_or_aside(driver)
    if revision == HEAD:
        return aside  # another process was first
    if revision is not None:
        _check_known(driver.path, revision)
    prepare_file(driver.path)
    driver = _set_journal(driver)
    if revision is None:
        _create(driver)
    else:
        from comfy_mcp.store.migrations import run  # Alembic costs 0.1 s: only when there is work for it

        run.upgrade_file(driver.connect, driver.module, BEGIN_WRITING)
    return aside


def _create(driver: _Driver) -> None:
    """Head at once. A test holds it equal to running every migration."""
    connection = Connection(driver.connect(), begin=BEGIN_WRITING)
    try:
        connection.within(_create_tables)
    finally:
        connection.close()


def _create_tables(connection: Connection) -> None:
    for text in TABLES:
        connection.exec_driver_sql(text)
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (:head)", {"head": HEAD})


def _check_known(path: Path, revision: str) -> None:
    from comfy_mcp.store.migrations import run

    run.require_known(revision, path, "COMFY_BRIDGE_STATE_DIR to another folder")


def _revision_or_aside(driver: _Driver) -> tuple[str | None, Path | None]:
    try:
        return _revision(driver), None
    except StoreFault as fault:
        if fault.code is not ErrorCode.STORE_CORRUPT:
            raise
        try:
            aside = set_aside(driver.path)
        except OSError:
            raise fault from None
    log.error("store_set_aside", path=str(driver.path), set_aside=str(aside))
    return None, aside


def _revision(driver: _Driver) -> str | None:
    """The schema revision of the file; None where there is no file or no schema yet.

    Raises StoreFault, `store_corrupt` where the file is damaged as far as a bounded check can find.
    """
    try:
        size = driver.path.stat().st_size
    except FileNotFoundError:
        return None
    if size == 0:
        return None
    thorough = size <= CHECKED_BYTES or suspicion(driver.path).exists()
    try:
        return _look(driver, thorough, read_only=True)
    except driver.module.Error as error:
        if primary_code(error) not in {ResultCode.READONLY, ResultCode.CANTOPEN}:
            raise fault_of(error, driver.path) from error
    try:
        return _look(driver, thorough, read_only=False)  # a rollback is due after a crash, and that writes
    except driver.module.Error as error:
        raise fault_of(error, driver.path) from error


def _look(driver: _Driver, thorough: bool, *, read_only: bool) -> str | None:
    """Read-only, because the last writer to close would also write the log into a damaged file."""
    connection = driver.bare(read_only=read_only)
    try:
        if thorough:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _damaged(driver.path)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    finally:
        connection.close()
    return None if row is None else str(row[0])


def _damaged(path: Path) -> StoreFault:
    return StoreFault(
        f"The store at {path} is damaged and could not be renamed.",
        next_step="Move the file away yourself, then start again.",
        code=ErrorCode.STORE_CORRUPT,
    )
