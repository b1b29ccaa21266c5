"""The exit codes of the commands, and the exit code of each error."""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from comfy_mcp.domain.errors import BridgeError, ErrorCode


class ExitCode(IntEnum):
    """Documented in docs/cli.md and in `comfy-bridge --help`."""

    OK = 0
    INTERNAL = 1
    USAGE = 2  # click's own number for a wrong option
    NOT_FOUND = 3
    CONFLICT = 4
    ENGINE = 5
    STORE = 6
    JOB_FAILED = 7
    JOB_CANCELLED = 8
    TIMED_OUT = 9
    INTERRUPTED = 130  # 128 + SIGINT, as shells expect


MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.OK: "success",
        ExitCode.INTERNAL: "a bug in comfy-bridge",
        ExitCode.USAGE: "an invalid option, argument, workflow or setting",
        ExitCode.NOT_FOUND: "no such workflow, output or key",
        ExitCode.CONFLICT: "not possible in the current state (already ended, queue full)",
        ExitCode.ENGINE: "no engine answers, or its answer is not ComfyUI's",
        ExitCode.STORE: "the store can't be opened or written",
        ExitCode.JOB_FAILED: "the workflow ran and failed",
        ExitCode.JOB_CANCELLED: "the workflow was cancelled",
        ExitCode.TIMED_OUT: "--timeout has passed; the workflow continues",
        ExitCode.INTERRUPTED: "Ctrl-C; the workflow continues unless --cancel-on-interrupt was given",
    }
)


BY_ERROR: Mapping[ErrorCode, ExitCode] = MappingProxyType(
    {
        ErrorCode.INVALID_ARGUMENT: ExitCode.USAGE,
        ErrorCode.GRAPH_UI_FORMAT: ExitCode.USAGE,
        ErrorCode.GRAPH_INVALID: ExitCode.USAGE,
        ErrorCode.PATH_NOT_ALLOWED: ExitCode.USAGE,
        ErrorCode.PATH_UNREADABLE: ExitCode.USAGE,
        ErrorCode.CONFIGURATION: ExitCode.USAGE,
        ErrorCode.LANE_UNAVAILABLE: ExitCode.USAGE,
        ErrorCode.TOO_LARGE: ExitCode.USAGE,
        ErrorCode.UNAUTHENTICATED: ExitCode.USAGE,
        ErrorCode.FORBIDDEN: ExitCode.USAGE,
        ErrorCode.IDEMPOTENCY_MISMATCH: ExitCode.USAGE,
        ErrorCode.WORKFLOW_NOT_FOUND: ExitCode.NOT_FOUND,
        ErrorCode.NOT_FOUND: ExitCode.NOT_FOUND,
        ErrorCode.OUTPUT_GONE: ExitCode.NOT_FOUND,
        ErrorCode.NOT_CANCELLABLE: ExitCode.CONFLICT,
        ErrorCode.NOT_RETRYABLE: ExitCode.CONFLICT,
        ErrorCode.QUEUE_FULL: ExitCode.CONFLICT,
        ErrorCode.BUDGET_SPENT: ExitCode.CONFLICT,
        ErrorCode.RATE_LIMITED: ExitCode.CONFLICT,
        ErrorCode.TOO_MANY_STREAMS: ExitCode.CONFLICT,
        ErrorCode.SHUTTING_DOWN: ExitCode.CONFLICT,
        ErrorCode.OUTPUT_UNREADABLE: ExitCode.ENGINE,
        ErrorCode.ENGINE_UNREACHABLE: ExitCode.ENGINE,
        ErrorCode.ENGINE_BAD_ANSWER: ExitCode.ENGINE,
        ErrorCode.STORE_UNAVAILABLE: ExitCode.STORE,
        ErrorCode.STORE_CORRUPT: ExitCode.STORE,
        ErrorCode.STORE_SCHEMA_NEWER: ExitCode.STORE,
        ErrorCode.INTERNAL: ExitCode.INTERNAL,
    }
)
"""Every code has its place: a test holds the table complete."""


def exit_code_of(error: BridgeError) -> ExitCode:
    return BY_ERROR[error.code]


def exit_code_of_status(status: str) -> ExitCode:
    """For a workflow that was waited for: one that has not ended is a timeout."""
    match status:
        case "completed":
            return ExitCode.OK
        case "failed":
            return ExitCode.JOB_FAILED
        case "cancelled":
            return ExitCode.JOB_CANCELLED
        case _:
            return ExitCode.TIMED_OUT
