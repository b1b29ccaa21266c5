"""The only touch of the SDK's private parts; tests/server/test_sdk.py fails when an upgrade moves them."""

from collections.abc import Collection, Mapping

from mcp.server.connection import Connection
from mcp.server.session import ServerSession
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER as SESSION_HEADER
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

__all__ = ["SESSION_HEADER", "connection_of", "may_open_session", "open_sessions"]


def connection_of(session: ServerSession) -> Connection:
    """The connection behind a request's session: what outlives the request, and says when it closes.

    There is no public way to it in mcp 2.3 from a lowlevel handler.
    """
    return session._connection  # noqa: SLF001


def open_sessions(manager: StreamableHTTPSessionManager) -> Collection[str]:
    """The ids of its sessions that have not ended. It says of none that it ends."""
    return manager._server_instances.keys()  # noqa: SLF001


def may_open_session(headers: Mapping[str, str]) -> bool:
    """Whether a request to a manager may open one: it names none, in a version that has them. `headers` don't
    mind the case."""
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return SESSION_HEADER not in headers and version in {None, *HANDSHAKE_PROTOCOL_VERSIONS}
