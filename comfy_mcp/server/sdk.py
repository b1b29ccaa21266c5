"""The only touch of the SDK's private parts; tests/server/test_sdk.py fails when an upgrade moves them."""

from mcp.server.connection import Connection
from mcp.server.session import ServerSession


def connection_of(session: ServerSession) -> Connection:
    """The connection behind a request's session: what outlives the request, and says when it closes.

    There is no public way to it in mcp 2.3 from a lowlevel handler.
    """
    return session._connection  # noqa: SLF001
