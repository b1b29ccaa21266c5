"""Workflows from files under the allowed folders, and from text: JSON and nothing but."""

import asyncio
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.library.path_guard import NotRegular, OutsideRoots, open_inside, resolve_inside
from comfy_mcp.settings import JobGroup

ROOTS_SETTING = "COMFY_BRIDGE_WORKFLOW_ROOTS"
SIZE_SETTING = "COMFY_BRIDGE_MAX_GRAPH_BYTES"


class WorkflowFiles:
    """Reads workflow files. A relative path is looked for under each allowed folder in turn."""

    def __init__(self, settings: JobGroup, *, timeout_s: float) -> None:
        self._roots = settings.workflow_roots or (Path.cwd(),)
        self._max_bytes = settings.max_graph_bytes
        self._timeout_s = timeout_s

    @property
    def roots(self) -> tuple[Path, ...]:
        return tuple(self._roots)

    async def read(self, path: str | Path) -> Any:
        """The JSON value in the file.

        Raises InvalidInput (path_not_allowed, path_unreadable, graph_invalid, too_large). Whether a
        path outside the folders exists is not told.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await asyncio.to_thread(self._read_bytes, str(path))
        except TimeoutError:
            raise _unreadable(path, "the disk does not answer") from None
        return self.parse(data)

    def parse(self, text: str | bytes) -> Any:
        """See `parse_workflow_text`; the limit is the setting's."""
        return parse_workflow_text(text, self._max_bytes)

    def _read_bytes(self, path: str) -> bytes:
        try:
            descriptor, opened = open_inside(self._locate(path), self._roots)
        except OutsideRoots:
            raise self._not_allowed(path) from None
        except NotRegular:
            raise _unreadable(path, "it is not a regular file") from None
        except OSError as error:
            raise _unreadable(path, error.strerror or type(error).__name__) from None
        with os.fdopen(descriptor, "rb") as stream:
            if opened.st_size > self._max_bytes:
                raise _too_large(opened.st_size, self._max_bytes)
            # One byte more than allowed: the file may have grown since, or belong to a /proc that says 0.
            try:
                return stream.read(self._max_bytes + 1)
            except OSError as error:
                raise _unreadable(path, error.strerror or type(error).__name__) from None

    def _locate(self, path: str) -> Path:
        try:
            wanted = Path(path).expanduser()
        except RuntimeError:  # ~someone who does not exist
            wanted = Path(path)
        if wanted.is_absolute():
            return wanted
        candidates = [root / wanted for root in self._roots]
        return next((each for each in candidates if _is_there(each, self._roots)), candidates[0])

    def _not_allowed(self, path: str) -> InvalidInput:
        allowed = ", ".join(str(root) for root in self._roots)
        return InvalidInput(
            f"{_shown(path)} is outside the folders for workflow files: {allowed}.",
            next_step=f"Move the file there, pass the workflow inline, or add its folder to {ROOTS_SETTING}.",
            code=ErrorCode.PATH_NOT_ALLOWED,
            details={"roots": [str(root) for root in self._roots], "setting": ROOTS_SETTING},
        )


def parse_workflow_text(text: str | bytes, max_bytes: int) -> Any:
    """The JSON value of `text`, strictly: no NaN, no Infinity, UTF-8 only.

    Of duplicate keys the last one counts, as in the engine. What the value must look like is not checked
    here. Raises InvalidInput (graph_invalid with line and column, too_large).
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogatepass")
    if len(data) > max_bytes:
        raise _too_large(len(data), max_bytes)
    try:
        decoded = data.decode("utf-8-sig")
        value = json.loads(decoded, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _not_json(
            f"{error.msg} at line {error.lineno}, column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except UnicodeError:
        raise _not_json("it contains text that is not valid Unicode (UTF-8)") from None
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


def _is_there(path: Path, roots: Sequence[Path]) -> bool:
    try:
        return resolve_inside(path, roots).exists()
    except (OutsideRoots, OSError):
        return False


def _not_json(why: str, **details: object) -> InvalidInput:
    return InvalidInput(
        f"The workflow is not valid JSON: {why}.",
        next_step="Send a workflow as JSON: in ComfyUI, Workflow > Save or Export (API).",
        code=ErrorCode.GRAPH_INVALID,
        details=details,
    )


def _too_large(size: int, limit: int) -> InvalidInput:
    return InvalidInput(
        f"The workflow has {size} bytes; the limit is {limit}.",
        next_step=f"Upload embedded data as an input file instead, or raise {SIZE_SETTING}.",
        code=ErrorCode.TOO_LARGE,
        details={"size": size, "limit": limit},
    )


def _unreadable(path: str | Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"The workflow file {_shown(path)} can't be read: {why}.",
        next_step="Check the path, or pass the workflow inline.",
        code=ErrorCode.PATH_UNREADABLE,
    )


def _shown(path: str | Path) -> str:
    text = str(path)
    return repr(text if len(text) <= 200 else f"{text[:199]}…")
