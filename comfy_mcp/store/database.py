"""What the store needs of a database, and which one the settings name."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store.connection import Connection

BUSY_S = 10.0
"""How long a write waits while another process writes, whose transactions take milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """How the store runs, for `doctor`. `where`: its file, or its server without the password; `path`: where
    its file is or would be, beside which this machine keeps its own. `set_aside`: where this open put a
    damaged store."""

    where: str
    path: Path
    driver: str
    version: str
    journal_mode: str
    synchronous: str
    schema_revision: str
    set_aside: Path | None = None


class Database(Protocol):
    """An open database. Its methods are blocking, but for `data_version`."""

    @property
    def info(self) -> StoreInfo: ...

    @property
    def loop_reader(self) -> Connection | None:
        """For the loop's own thread: it never waits. None: nothing is read there."""
        ...

    @property
    def loop_writer(self) -> Connection | None: ...

    @property
    def version_is_exact(self) -> bool:
        """Whether `data_version` changes with a commit, or some time after it."""
        ...

    def reader(self) -> Connection:
        """A new connection for reading. All that a transaction reads is as of one moment."""
        ...

    def writer(self) -> Connection:
        """A new one for writing. One transaction of all processes writes at a time, from its beginning."""
        ...

    def translated(self) -> AbstractContextManager[None]:
        """Raises StoreFault for whatever the database says inside."""
        ...

    def check_identity(self) -> None:
        """Ahead of a write. Raises StoreFault if this is no more the database that was opened."""
        ...

    def check_identity_lately(self) -> None:
        """The same for reads: once in a while is enough."""
        ...

    def met_within(self, seconds: float) -> StoreFault | None:
        """The last fault of the database, if it is no older than that."""
        ...

    def data_version(self) -> int:
        """Changes when another process has committed. -1, which is no version, where that is not known now.

        For the loop's own thread: it never waits.
        """
        ...

    def on_change(self, tell: Callable[[], None]) -> bool:
        """`tell` is called, in any thread, when `data_version` has changed. False: it has to be asked."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes by what takes them."""
        ...

    def checkpoint(self) -> None:
        """Move what is in the WAL into the file, where nobody else does."""
        ...

    def close(self) -> None: ...


def open_database(settings: StoreGroup) -> Database:
    """Create, migrate or just open the store; blocking.

    Raises StoreFault: `store_schema_newer` (it is left as it is), `store_corrupt` (damaged and could not be
    set aside), `store_unavailable`. InvalidInput (`configuration`) where the driver is not installed.
    """
    if settings.store is None:
        from comfy_mcp.store.sqlite.database import open_file

        return open_file(settings)
    from comfy_mcp.store.postgresql.database import open_server

    return open_server(settings, settings.store.get_secret_value())
