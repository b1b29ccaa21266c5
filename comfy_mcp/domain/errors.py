"""All errors, as one tree.

BridgeError
├── InvalidInput        the caller's argument is at fault; nothing was written
│   └── InvalidGraph    the graph is at fault; `problems` says where
├── NotFound            no such workflow, output or resource
├── Denied              the caller is unknown, or may not do this
├── Conflict            the state does not allow it
├── LimitExceeded       a setting's bound was reached
├── EngineFault         a ComfyUI server did not do its part
│   ├── EngineUnreachable   no answer at all: down, refused, timed out
│   └── EngineBadAnswer     an answer that is not the protocol: HTML, 500, half a frame
├── StoreFault          the database did not do its part
│   └── Fenced          this process no longer holds the engine's lease
└── ShuttingDown        the process drains

Every error has a stable `code`, a sentence in `message`, a `next_step`, and `retryable`. Warnings that were
found before it are in `details`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Self

from comfy_mcp.domain.shown import counted


class ErrorCode(StrEnum):
    """Stable codes. A code never changes its meaning; new ones may be added."""

    INVALID_ARGUMENT = "invalid_argument"
    GRAPH_UI_FORMAT = "graph_ui_format"
    GRAPH_INVALID = "graph_invalid"
    PATH_NOT_ALLOWED = "path_not_allowed"
    PATH_UNREADABLE = "path_unreadable"
    WORKFLOW_NOT_FOUND = "workflow_not_found"
    NOT_FOUND = "not_found"
    OUTPUT_GONE = "output_gone"
    NOT_CANCELLABLE = "not_cancellable"
    NOT_RETRYABLE = "not_retryable"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    TOO_LARGE = "too_large"
    TOO_MANY_STREAMS = "too_many_streams"
    QUEUE_FULL = "queue_full"
    LANE_UNAVAILABLE = "lane_unavailable"
    BUDGET_SPENT = "budget_spent"
    OUTPUT_UNREADABLE = "output_unreadable"
    ENGINE_UNREACHABLE = "engine_unreachable"
    ENGINE_BAD_ANSWER = "engine_bad_answer"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_CORRUPT = "store_corrupt"
    STORE_SCHEMA_NEWER = "store_schema_newer"
    SHUTTING_DOWN = "shutting_down"
    CONFIGURATION = "configuration"
    INTERNAL = "internal"


_NO_DETAILS: Mapping[str, object] = MappingProxyType({})


NEVER_RETRYABLE = frozenset({ErrorCode.TOO_LARGE, ErrorCode.INVALID_ARGUMENT})


class BridgeError(Exception):
    """The root. Only subclasses are raised."""

    default_code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    transient: ClassVar[bool] = False
    """Whether errors of this kind pass by themselves."""

    def __init__(
        self,
        message: str,
        *,
        next_step: str,
        code: ErrorCode | None = None,
        details: Mapping[str, object] = _NO_DETAILS,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.code = code or self.default_code
        self.details = details

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later. What is too large stays so, whichever limit says it."""
        return self.transient and self.code not in NEVER_RETRYABLE

    @property
    def sentence(self) -> str:
        """The message as a sentence, for texts that go on with the next step."""
        return self.message if self.message.endswith((".", "!", "?", "…")) else f"{self.message}."

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found before the error, and would be a warning of the result."""
        found = self.details.get("warnings", ())
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def warned(self) -> str:
        """The warnings for a text: as many as can be read, and how many more there are."""
        shown = readable(self.warnings)
        more = len(self.warnings) - len(shown)
        said = [*shown, *([f"And {more} more."] if more else ())]
        return f"Warning: {' '.join(said)}" if said else ""

    def with_warnings(self, warnings: Sequence[str]) -> Self:
        """The same error, with these before its own. A copy: an error may be kept and raised again."""
        found = list(counted([*dict.fromkeys([*warnings, *self.warnings])], MAX_WARNINGS))
        if not warnings or found == [*self.warnings]:
            return self
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__, details={**self.details, "warnings": found})
        return copy.with_traceback(self.__traceback__)

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}" if self.next_step else self.message


class carrying:  # noqa: N801 - used as a statement; contextlib's way takes three times as long
    """A BridgeError that leaves the block has `warnings`, as they are then."""

    def __init__(self, warnings: Sequence[str]) -> None:
        self._warnings = warnings

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: type | None, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, BridgeError) and (changed := error.with_warnings(self._warnings)) is not error:
            raise changed from error.__cause__


MAX_WARNINGS = 1_000
"""Most warnings of one conversion, and of one error."""

READABLE = 1500
"""Characters of problems, and of warnings, in the text of an error; its structure has more of them."""


def readable(texts: Sequence[str]) -> Sequence[str]:
    """The first, as many as can be read: one at least."""
    length = 0
    for at, text in enumerate(texts):
        length += len(text)
        if length > READABLE and at:
            return texts[:at]
    return texts


class InvalidInput(BridgeError):
    """The caller's argument is wrong; nothing was written."""

    default_code = ErrorCode.INVALID_ARGUMENT


LONGEST_PROBLEM = 2_000
"""Characters of a graph problem's message, and of each name in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphProblem:
    """One thing wrong with a graph, phrased for the agent that wrote it.

    `kind` uses ComfyUI's own error types where one exists (`value_not_in_list`, …).
    """

    kind: str
    message: str
    node_id: str | None = None
    class_type: str | None = None
    input_name: str | None = None
    suggestions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names come from the graph, and a graph may have names of megabytes."""
        for name in ("message", "node_id", "class_type", "input_name"):
            text = getattr(self, name)
            if text is not None and len(text) > LONGEST_PROBLEM:
                object.__setattr__(self, name, f"{text[: LONGEST_PROBLEM - 1]}…")


class InvalidGraph(InvalidInput):
    """The graph can't run. `problems` is never empty."""

    default_code = ErrorCode.GRAPH_INVALID

    def __init__(
        self,
        message: str,
        *,
        next_step: str,
        problems: Sequence[GraphProblem],
        code: ErrorCode | None = None,
        details: Mapping[str, object] = _NO_DETAILS,
    ) -> None:
        super().__init__(message, next_step=next_step, code=code, details=details)
        self.problems = tuple(problems)


class NotFound(BridgeError):
    """The thing does not exist, or this caller may not see it."""

    default_code = ErrorCode.WORKFLOW_NOT_FOUND


class Denied(BridgeError):
    """The caller is unknown (`unauthenticated`), or may not do this (`forbidden`)."""

    default_code = ErrorCode.FORBIDDEN


class Conflict(BridgeError):
    """The state of the thing does not allow it."""

    default_code = ErrorCode.NOT_CANCELLABLE


class LimitExceeded(BridgeError):
    """A bound from the settings was reached."""

    default_code = ErrorCode.QUEUE_FULL
    transient = True


class EngineFault(BridgeError):
    """A ComfyUI server did not do its part."""

    default_code = ErrorCode.ENGINE_UNREACHABLE
    transient = True


class EngineUnreachable(EngineFault):
    """No answer: connection refused or reset, name unknown, or a timeout.

    After a POST it says nothing about whether the engine accepted the prompt.
    """


class EngineBadAnswer(EngineFault):
    """An answer that is not the protocol: HTML, an unexpected status, JSON of another shape."""

    default_code = ErrorCode.ENGINE_BAD_ANSWER


class StoreFault(BridgeError):
    """The database did not do its part."""

    default_code = ErrorCode.STORE_UNAVAILABLE
    transient = True


class Fenced(StoreFault):
    """A write was refused: another process holds the engine's lease or the attempt moved on."""

    transient = False


class ShuttingDown(BridgeError):
    """The process drains and takes no new work."""

    default_code = ErrorCode.SHUTTING_DOWN
    transient = True


def file_too_large(limit: int) -> LimitExceeded:
    """Of a file that comes to the bridge."""
    return LimitExceeded(
        f"The file is larger than {limit} bytes.",
        next_step="Give a smaller file, or raise COMFY_BRIDGE_MAX_UPLOAD_BYTES.",
        code=ErrorCode.TOO_LARGE,
    )


def unexpected(error_id: str) -> BridgeError:
    """Something that nobody foresaw; the log has it under `error_id`."""
    return BridgeError(
        f"An unexpected error occurred (error id {error_id}).",
        next_step="Try again. If it happens again, find the cause in the server's log under this id.",
        details={"errorId": error_id},
    )
