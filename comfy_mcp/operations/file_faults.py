"""Files of a workflow that can't be found or used: all of them in one error, by node and input."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from comfy_mcp.domain.errors import (
    BridgeError,
    ErrorCode,
    GraphProblem,
    InvalidGraph,
    InvalidInput,
    LimitExceeded,
    NotFound,
    readable,
)
from comfy_mcp.domain.file_inputs import FileInput
from comfy_mcp.domain.graph import MAX_PROBLEMS
from comfy_mcp.domain.graph_checks import GraphReport

MAX_FILES = 64
"""Different files of one workflow."""


def fault_at(
    found: FileInput, error: InvalidInput | NotFound | LimitExceeded
) -> InvalidGraph | NotFound | LimitExceeded:
    """The error with the place of the file."""
    message = f"{found.where}: {error.message}"
    how: dict[str, Any] = {"next_step": error.next_step, "code": error.code, "details": error.details}
    if not isinstance(error, InvalidInput):
        return type(error)(message, **how)
    problem = GraphProblem(
        kind="custom_validation_failed", message=message, node_id=found.node, input_name=found.name
    )
    return InvalidGraph(message, problems=[problem], **how)


def of_all(faults: Sequence[InvalidGraph | NotFound]) -> InvalidGraph | NotFound:
    """The first, which says the others too."""
    first = faults[0]
    if len(faults) == 1:
        return first
    told = readable([each.sentence for each in faults])
    more = [f"And {len(faults) - len(told)} more."] if len(faults) > len(told) else []
    said = " ".join([*told, *more])
    how: dict[str, Any] = {"next_step": first.next_step, "code": first.code, "details": first.details}
    if isinstance(first, NotFound):
        return NotFound(said, **how)
    problems = [each for fault in faults if isinstance(fault, InvalidGraph) for each in fault.problems]
    return InvalidGraph(said, problems=problems[:MAX_PROBLEMS], **how)


def too_many() -> LimitExceeded:
    return LimitExceeded(
        f"The workflow names more than {MAX_FILES} files.",
        next_step="Put them into the engine's input folder, and use the names there.",
        code=ErrorCode.TOO_LARGE,
    )


@contextmanager
def carrying_others(report: GraphReport, found: Collection[tuple[str, str]]) -> Iterator[None]:
    """A BridgeError that leaves the block has the warnings of `report`, but for doubts that it says and those
    about files that were `found` before, by node and input."""
    try:
        yield
    except BridgeError as error:
        problems = error.problems if isinstance(error, InvalidGraph) else ()
        about = {*found, *((each.node_id or "", each.input_name or "") for each in problems)}
        raise error.with_warnings(report.without_doubts(about).warnings) from error.__cause__
