"""Errors as an agent reads them: a stable code, a sentence, the next step. Never an exception's text."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from comfy_mcp.domain.errors import (
    BridgeError,
    InvalidGraph,
    InvalidInput,
    NotFound,
    unexpected,
)
from comfy_mcp.domain.shown import counted
from comfy_mcp.operations.brief import MAX_WARNINGS, cut
from comfy_mcp.operations.shapes import ProblemItem

log = structlog.get_logger(__name__)

RESOURCE_NOT_FOUND = -32002
"""The code up to 2025-11-25; 2026-07-28 says INVALID_PARAMS (both: server/resources, "Error Handling")."""

ERROR_META_KEY = "comfy-bridge/error"
"""`_meta` of a failed tool call, for programs. Not structuredContent: clients hold that to the schema."""

TEXT_LIMIT = 4_000
"""Characters of an error's text; a graph may have hundreds of faults."""


@contextmanager
def foreseen(where: str) -> Iterator[None]:
    """Errors meant for the caller pass; any other is logged under an id and becomes an error with that id."""
    try:
        yield
    except (BridgeError, MCPError):
        raise
    except Exception:
        error_id = secrets.token_hex(4)
        log.exception("unexpected_error", error_id=error_id, where=where)
        raise unexpected(error_id) from None


def error_text(error: BridgeError) -> str:
    """One line, with the next step last: long messages and warnings are cut, the next step never."""
    room = TEXT_LIMIT - len(error.next_step) - len(error.code.value) - 4
    message = cut(f"{error.sentence} {error.warned}".strip(), room)
    return f"{error.code.value}: {message} {error.next_step}".strip()


def error_data(error: BridgeError) -> dict[str, object]:
    """The same for programs."""
    data: dict[str, object] = {
        "code": error.code.value,
        "nextStep": error.next_step,
        "retryable": error.retryable,
    }
    if error.details:
        data["details"] = dict(error.details)
    if error.warnings:
        data["details"] = {**error.details, "warnings": list(counted(error.warnings, MAX_WARNINGS))}
    if isinstance(error, InvalidGraph):
        data["problems"] = [ProblemItem.of(each).model_dump(mode="json") for each in error.problems]
    return data


def error_result(error: BridgeError) -> CallToolResult:
    """A failed tool call that the model sees and can correct."""
    return CallToolResult(
        content=[TextContent(text=error_text(error))],
        is_error=True,
        _meta={ERROR_META_KEY: error_data(error)},
    )


def protocol_error(error: BridgeError, *, protocol_version: str, uri: str | None = None) -> MCPError:
    """The same as a JSON-RPC error, for everything that is not a tool call."""
    data: Mapping[str, object] = {**error_data(error), **({"uri": uri} if uri is not None else {})}
    return MCPError(code=_json_rpc_code(error, protocol_version), message=error_text(error), data=dict(data))


def _json_rpc_code(error: BridgeError, protocol_version: str) -> int:
    if isinstance(error, NotFound):
        return INVALID_PARAMS if protocol_version in MODERN_PROTOCOL_VERSIONS else RESOURCE_NOT_FOUND
    return INVALID_PARAMS if isinstance(error, InvalidInput) else INTERNAL_ERROR
