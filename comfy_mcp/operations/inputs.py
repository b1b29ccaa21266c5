"""Files that workflows read: bring one to the engine."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from comfy_mcp.domain.client_files import folder_of
from comfy_mcp.domain.errors import BridgeError, EngineFault, ErrorCode, InvalidInput, LimitExceeded
from comfy_mcp.domain.file_inputs import FOLDER
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import UploadParams, UploadResult


async def upload_input(context: OperationContext, params: UploadParams) -> UploadResult:
    """Stream `context.content` to the engine, and tell the name that it has there.

    With several engines the bridge keeps the file, and the engine that runs a workflow gets it.

    Raises InvalidInput for a name that leads elsewhere, LimitExceeded (`too_large`), EngineFault, and what
    reading the content raises.
    """
    if context.content is None:
        raise InvalidInput("The call has no file.", next_step="Send it as a multipart form.")
    _check_name(params.filename)
    _check_subfolder(params.subfolder)
    services = context.services
    if services.engines.several:
        name = await services.input_files.keep_upload(context.content, params.filename, context.caller.share)
        return UploadResult(name=name, subfolder=FOLDER, type="input")
    content = await _limited(context, context.content)
    try:
        kept = await context.services.engines.upload(
            params.filename, content, subfolder=_folder(context, params.subfolder), overwrite=params.overwrite
        )
    except EngineFault:
        if content.failure is not None:  # the upload was broken off by us, and this is why
            raise content.failure from None
        raise
    return UploadResult(name=kept.name, subfolder=kept.subfolder, type=kept.folder_type)


async def _limited(context: OperationContext, content: AsyncIterable[bytes]) -> "_LimitedContent":
    """Limited to our maximum or the engine's, whichever is less."""
    ours = context.services.settings.max_upload_bytes
    theirs = await context.services.engines.upload_limit()
    if theirs is None or theirs - _FORM_BYTES >= ours:
        return _LimitedContent(content, ours, "raise COMFY_BRIDGE_MAX_UPLOAD_BYTES")
    return _LimitedContent(
        content, max(0, theirs - _FORM_BYTES), "start ComfyUI with a larger --max-upload-size"
    )


_FORM_BYTES = 4096
"""The engine counts the form around the file, too."""


@dataclass(slots=True)
class _LimitedContent:
    """The content; it fails after `limit` bytes. `failure` keeps why, because an HTTP client hides it.

    `remedy`: how to raise the limit."""

    content: AsyncIterable[bytes]
    limit: int
    remedy: str
    failure: BridgeError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = 0
        try:
            async for chunk in self.content:
                total += len(chunk)
                if total > self.limit:
                    raise LimitExceeded(
                        f"The file is larger than {self.limit} bytes.",
                        next_step=f"Send a smaller file, or {self.remedy}.",
                        code=ErrorCode.TOO_LARGE,
                    )
                yield chunk
        except BridgeError as error:
            self.failure = error
            raise


def _folder(context: OperationContext, subfolder: str) -> str:
    """Where clients are kept apart, the caller's own folder or one below it."""
    caller = context.caller
    if not context.services.settings.isolate_clients or caller.sees_all:
        return subfolder
    return f"{folder_of(caller.client)}/{subfolder}".rstrip("/")


def _check_name(name: str) -> None:
    if name in {".", ".."} or any(char in '/\\:"' or not char.isprintable() for char in name):
        raise _not_allowed("The file's name")


def _check_subfolder(subfolder: str) -> None:
    parts = PurePosixPath(subfolder).parts
    if (
        subfolder.startswith("/")
        or ".." in parts
        or any(c in '\\:"' or not c.isprintable() for c in subfolder)
    ):
        raise _not_allowed("The subfolder")


def _not_allowed(what: str) -> InvalidInput:
    return InvalidInput(
        f"{what} points outside the input folder, or has characters that some systems do not allow.",
        next_step="Use only letters, digits, dots, dashes and spaces.",
        code=ErrorCode.PATH_NOT_ALLOWED,
    )
