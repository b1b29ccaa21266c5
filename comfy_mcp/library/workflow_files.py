"""Workflows from files under the allowed folders, from bytes that a caller sends, and from text.

A file is JSON in any encoding of Unicode, or a picture, video or sound that has a workflow inside.
"""

import asyncio
import json
import math
import tempfile
from collections.abc import AsyncIterable, Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from comfy_mcp.daemon_threads import Apart
from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.media_types import HEAD_BYTES, media_type_of
from comfy_mcp.library.allowed_folders import AllowedFolders, unreadable
from comfy_mcp.library.media_texts import is_media, texts_in
from comfy_mcp.library.tagged_texts import Damaged, TextTooLong, is_settings
from comfy_mcp.settings import JobGroup

SIZE_SETTING = "COMFY_BRIDGE_MAX_GRAPH_BYTES"
FILE_SETTING = "COMFY_BRIDGE_MAX_UPLOAD_BYTES"
WHAT, ADVICE = "workflow file", "pass the workflow inline"
"""For errors of a path."""


class WorkflowFiles:
    """Reads workflow files. A relative path is looked for under each allowed folder in turn."""

    def __init__(self, settings: JobGroup, *, timeout_s: float) -> None:
        self.folders = AllowedFolders(settings.workflow_roots)
        self._max_bytes = settings.max_graph_bytes
        self._disk = Apart("workflow files", limit_s=timeout_s)

    async def read(self, path: str | Path) -> Any:
        """The workflow in the file, see `read_workflow_file`.

        Raises InvalidInput (path_not_allowed, path_unreadable, graph_invalid, too_large). The answer
        does not say whether a path outside the folders exists.
        """
        try:
            return await self._disk.do(lambda: self._read(str(path)))
        except TimeoutError:
            raise unreadable(str(path), WHAT, ADVICE, "the disk does not answer") from None

    async def receive(self, content: AsyncIterable[bytes], most: int) -> Any:
        """The workflow in a file that comes as bytes, of which a picture or video may have `most`.

        Raises InvalidInput (graph_invalid, too_large), and what reading the content raises.
        """
        with tempfile.TemporaryFile() as stream:
            head, size = b"", 0
            async for chunk in content:
                head += chunk[: HEAD_BYTES - len(head)]
                limit, setting = (most, FILE_SETTING) if is_media(head) else (self._max_bytes, SIZE_SETTING)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit, setting=setting)  # more may follow
                stream.write(chunk)
            stream.seek(0)
            return await asyncio.to_thread(read_workflow_file, stream, self._max_bytes)

    def parse(self, text: str | bytes) -> Any:
        """See `parse_workflow_text`; the limit is the setting's."""
        return parse_workflow_text(text, self._max_bytes)

    def _read(self, path: str) -> Any:
        file = self.folders.open(path, WHAT, ADVICE)
        with BufferedReader(file.stream) as stream:
            try:
                return read_workflow_file(stream, self._max_bytes, file.found.st_size)
            except OSError as error:
                raise unreadable(path, WHAT, ADVICE, error.strerror or type(error).__name__) from None


def read_workflow_file(stream: BinaryIO, max_bytes: int, size: int = 0) -> Any:
    """The workflow in a file: JSON, or what ComfyUI wrote into a picture, video or sound.

    `size`: as the disk says it, which may be 0 or outdated. Raises what `parse_workflow_text` raises, and
    InvalidInput (`graph_invalid`) for a media file without a workflow.
    """
    head = stream.read(HEAD_BYTES)
    if is_media(head):
        return _embedded(stream, media_type_of("", head), max_bytes)
    if size > max_bytes:
        raise _too_large(max_bytes, size)
    text = head + stream.read(max_bytes + 1 - len(head))
    if len(text) > max_bytes:
        raise _too_large(max_bytes)
    return parse_workflow_text(text, max_bytes)


def _embedded(stream: BinaryIO, media_type: str, max_bytes: int) -> Any:
    """The graph that ran, with the editor's file if it is there too, as the body of a submit to ComfyUI has
    them; else the editor's file."""
    try:
        texts = texts_in(stream, max_bytes)
    except Damaged:
        raise _no_workflow(media_type, "the text with its workflow is damaged") from None
    except TextTooLong:
        raise _no_workflow(media_type, f"a text in it has more than {max_bytes} bytes") from None
    # VHS_VideoCombine writes both into one comment, the graph as a text.
    comment = _object(texts.get("comment", b""), max_bytes) or {}
    prompt, workflow = (
        _object(texts.get(name, comment.get(name)), max_bytes) for name in ("prompt", "workflow")
    )
    if prompt and workflow:
        return {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}
    if prompt or workflow:
        return prompt or workflow
    if "settings" in texts:
        raise _only_settings(f"This file ({media_type})")
    raise _no_workflow(media_type, "it has none" if not texts else "its text is not a JSON object")


def _object(text: object, max_bytes: int) -> Mapping[str, Any] | None:
    """Of a text or an object. Python writes NaN, which no JSON has, where a node's cache key is no number."""
    if isinstance(text, str | bytes) and text:
        try:
            text = parse_workflow_text(text, max_bytes, constant=lambda _: None)
        except InvalidInput:
            return None
    return text if isinstance(text, Mapping) else None


def parse_workflow_text(
    text: str | bytes, max_bytes: int, *, constant: Callable[[str], object] | None = None
) -> Any:
    """The JSON value of `text`, strictly: no NaN, no Infinity.

    Bytes may be in UTF-8, UTF-16 or UTF-32, with a byte order mark or without. `constant` gives the value of
    NaN and Infinity where they are allowed. Of duplicate keys the last one counts, as in the engine. The
    structure of the value is not checked here. Raises InvalidInput (graph_invalid with line and column,
    too_large).
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogatepass")
    if len(data) > max_bytes:
        raise _too_large(max_bytes, len(data))
    try:
        decoded = data.decode("utf-8" if isinstance(text, str) else json.detect_encoding(data))
        decoded = decoded.removeprefix("\ufeff")
        value = large_json.loads(decoded, parse_constant=constant or _refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        if is_settings(data):
            raise _only_settings("This text") from None
        raise _not_json(
            f"{error.msg} at line {error.lineno}, column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except UnicodeError:
        raise _not_json("it contains text that is not valid Unicode") from None
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except _NotFinite as error:
        raise _not_json(f"{error} is not a JSON number, and the engine can't read it") from None
    except ValueError:  # CPython's limit on the digits of an integer
        raise _not_json("it contains an integer with too many digits") from None
    return value


class _NotFinite(Exception):
    pass


def _refuse_constant(name: str) -> NoReturn:
    raise _NotFinite(name)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _NotFinite(digits[:40])
    return value


def _not_json(why: str, **details: object) -> InvalidInput:
    return InvalidInput(
        f"The workflow is not valid JSON: {why}.",
        next_step="Send a workflow as JSON: in ComfyUI, Workflow > Save or Export (API).",
        code=ErrorCode.GRAPH_INVALID,
        details=details,
    )


def _only_settings(what: str) -> InvalidInput:
    return InvalidInput(
        f"{what} has no workflow, but the prompt and the settings of a program without nodes.",
        next_step='Call find_workflow(query="text to image") for a workflow, and set them as its inputs: '
        "prompt, negative, seed, steps, cfg, sampler, size.",
        code=ErrorCode.GRAPH_INVALID,
    )


def _no_workflow(media_type: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"This file ({media_type}) gives no workflow: {why}.",
        next_step="Submit the file as ComfyUI saved it: other programs and sites remove the workflow. "
        "Or submit JSON: in ComfyUI, Workflow > Save or Export (API).",
        code=ErrorCode.GRAPH_INVALID,
    )


def _too_large(limit: int, size: int | None = None, *, setting: str = SIZE_SETTING) -> InvalidInput:
    """`size` is None where not all of it was read."""
    advice = "Upload embedded data as an input file instead" if setting == SIZE_SETTING else "Send another"
    return InvalidInput(
        f"The workflow has more than {limit} bytes, the limit."
        if size is None
        else f"The workflow has {size} bytes; the limit is {limit}.",
        next_step=f"{advice}, or raise {setting}.",
        code=ErrorCode.TOO_LARGE,
        details={"limit": limit} if size is None else {"size": size, "limit": limit},
    )
