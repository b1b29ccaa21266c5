"""SQL by hand, past the store, on whichever database it has."""

from collections.abc import Sequence
from typing import Any

from comfy_mcp.store.connection import Connection, Result


def run(connection: Connection, text: str, values: Sequence[Any] = ()) -> Result:
    """Each value stands for a `?`."""
    if connection.dialect.name == "postgresql":
        text = text.replace("%", "%%").replace("?", "%s")
    return connection.exec_driver_sql(text, values)
