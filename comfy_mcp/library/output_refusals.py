"""What can't be had of an output, each with its next step."""

from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.errors import (
    BridgeError,
    EngineUnreachable,
    ErrorCode,
    InvalidInput,
    LimitExceeded,
    NotFound,
)

_SEPARATORS = frozenset("/\\\0")

ANOTHER = "another file has this name now"


def refuse_traversal(file: OutputFile) -> None:
    folder, named = file.subfolder.replace("\\", "/"), file.filename
    leads_out = ".." in (*folder.split("/"), named) or folder.startswith("/")
    if leads_out or not _SEPARATORS.isdisjoint(named) or "\0" in folder:
        raise InvalidInput(
            f"The output's name {f'{file.subfolder}/{named}'!r} points outside the engine's folder.",
            next_step="A broken custom node made this name; copy the file on the engine's machine.",
            code=ErrorCode.PATH_NOT_ALLOWED,
        )


def gone(output: Output, why: str) -> BridgeError:
    return NotFound(
        f"The file of output {output.id} no longer exists: {why}.",
        next_step="Run the workflow again to create it.",
        code=ErrorCode.OUTPUT_GONE,
        details={"filename": output.file.filename, "why": why},
    )


def forbidden(output: Output) -> BridgeError:
    return InvalidInput(
        f"The file of output {output.id} can't be read: this user may not read the outputs folder, and "
        "the engine does not have the file.",
        next_step="Give this user read permission for COMFY_BRIDGE_OUTPUTS_DIR.",
        code=ErrorCode.OUTPUT_UNREADABLE,
        details={"filename": output.file.filename},
    )


def missing(output: Output, *, refused: bool) -> BridgeError:
    """Of a file that the engine does not have, and that was `refused` where it lies on this machine."""
    return forbidden(output) if refused else gone(output, "the engine does not have it")


def too_large(output: Output, limit: int) -> LimitExceeded:
    size = "" if output.size is None else f" ({output.size} bytes)"
    return LimitExceeded(
        f"Output {output.id}{size} is larger than {limit} bytes, the limit for files in memory.",
        next_step="Fetch it by its URL.",
        code=ErrorCode.TOO_LARGE,
        details={"limit": limit},
    )


def too_slow(output: Output, limit_s: float) -> EngineUnreachable:
    return EngineUnreachable(
        f"Engine {output.engine} did not send output {output.id} within {limit_s:g} s.",
        next_step="Try again, or fetch the file itself.",
    )
