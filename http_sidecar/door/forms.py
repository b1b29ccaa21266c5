"""Multipart forms: the fields before the file, and the file as it comes, bounded in bytes and time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from comfy_mcp.domain.errors import ErrorCode, InvalidInput, LimitExceeded
from http_sidecar.app_state import SETTINGS
from http_sidecar.bounds import BOUNDS

FIELD_BYTES = 4096
CHUNK_BYTES = 64 * 1024
MOST_PARTS = 16
_FORM_BYTES = 16 * 1024
"""What a form has beside its file."""


class FilePart:
    """A file on its way. No pause may be longer than `timeout_s`; after that time the whole must not be
    slower than `bytes_per_s`."""

    def __init__(self, part: BodyPartReader, *, timeout_s: float, bytes_per_s: int) -> None:
        self._part = part
        self.filename = part.filename or ""
        self._timeout_s = timeout_s
        self._bytes_per_s = bytes_per_s
        self.timed_out = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        began, received = now(), 0
        while True:
            slowest = began + received / self._bytes_per_s
            try:
                async with asyncio.timeout_at(min(now(), slowest) + self._timeout_s):
                    chunk = await self._part.read_chunk(CHUNK_BYTES)
            except TimeoutError:
                self.timed_out = True
                raise InvalidInput(
                    "The file did not arrive in time.", next_step="Send it without pauses."
                ) from None
            except ValueError:
                raise _no_form() from None
            if not chunk:
                return
            received += len(chunk)
            yield chunk


async def read_form(request: web.Request) -> tuple[dict[str, Any], FilePart]:
    """The fields before the file, and the file, unread. Raises InvalidInput, LimitExceeded (`too_large`),
    HTTPRequestTimeout."""
    limit, bounds = request.app[SETTINGS].max_upload_bytes, request.app[BOUNDS]
    if request.content_length is not None and request.content_length > limit + _FORM_BYTES:
        raise LimitExceeded(
            f"The file is larger than {limit} bytes.",
            next_step="Send a smaller file, or raise COMFY_BRIDGE_MAX_UPLOAD_BYTES.",
            code=ErrorCode.TOO_LARGE,
        )
    if not request.content_type.startswith("multipart/"):
        raise _no_form()
    try:
        fields, part = await _up_to_the_file(await request.multipart(), bounds.body_timeout_s)
    except (ValueError, RuntimeError, AssertionError, HttpProcessingError):  # aiohttp's words for no form
        raise _no_form() from None
    return fields, FilePart(part, timeout_s=bounds.body_timeout_s, bytes_per_s=bounds.upload_bytes_per_s)


async def _up_to_the_file(form: MultipartReader, timeout_s: float) -> tuple[dict[str, Any], BodyPartReader]:
    """The fields before the file, and the file's part, unread."""
    fields: dict[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(MOST_PARTS):
                part = await form.next()
                if not isinstance(part, BodyPartReader):
                    break
                if part.filename is not None:
                    return fields, part
                fields[part.name or ""] = await _text_of(part)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    raise InvalidInput(
        "The form has no file.", next_step="Send it as a part with a filename: curl -F image=@photo.png …"
    )


async def _text_of(part: BodyPartReader) -> str:
    text = b""
    while chunk := await part.read_chunk(FIELD_BYTES):
        text += chunk
        if len(text) > FIELD_BYTES:
            raise InvalidInput(
                "A field of the form is too long.", next_step="Send the file as the part with a filename."
            )
    return text.decode("utf-8", "replace")


def _no_form() -> InvalidInput:
    return InvalidInput(
        "The body is not a multipart form.", next_step="Send the file like this: curl -F image=@photo.png …"
    )
