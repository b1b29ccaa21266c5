"""Alembic, driven from the program: no ini file, one connection and its transaction given by the caller."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from comfy_mcp.domain.errors import ErrorCode, StoreFault


def upgrade_file(connect: Callable[[], Any], module: ModuleType, begin: str) -> None:
    """Migrate the store that `connect` opens. Raises the driver's own errors."""
    engine = create_engine("sqlite://", creator=connect, module=module, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    try:
        with engine.connect() as connection, connection.begin():
            upgrade(connection)
    except DBAPIError as error:
        raise (error.orig or error) from error


def upgrade_server(connect: Callable[[], Any], lock: str) -> None:
    """Migrate the store of PostgreSQL to which `connect` connects, once `lock` has been had. Raises the
    driver's own errors."""
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(lock)
            upgrade(connection)  # nothing, where another process was first
    except DBAPIError as error:
        raise (error.orig or error) from error


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate inside the connection's running transaction: all of it or nothing."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def require_known(revision: str, where: object, instead: str) -> None:
    """Raises StoreFault for a store that a newer version has written. `instead`: what else to set."""
    if not _knows(revision):
        raise StoreFault(
            f"The store at {where} was written by a newer version of comfy-mcp-bridge (schema {revision}).",
            next_step=f"Upgrade comfy-mcp-bridge, or set {instead}.",
            code=ErrorCode.STORE_SCHEMA_NEWER,
        )


def _knows(revision: str) -> bool:
    try:
        return ScriptDirectory.from_config(_config()).get_revision(revision) is not None
    except CommandError:
        return False


def head() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
