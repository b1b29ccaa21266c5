"""Workflow files: read them for a call, convert them, check them."""

import contextlib
import json
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from comfy_mcp.cli.exits import ExitCode, exit_code_of
from comfy_mcp.cli.output import IN_COMMANDS, SHOWN_WARNINGS, Output, error_document, in_commands
from comfy_mcp.cli.saving import prepare_folder, save_text
from comfy_mcp.cli.session import Session, open_session
from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput
from comfy_mcp.domain.shown import counted
from comfy_mcp.operations.checking import Recorded
from comfy_mcp.operations.shapes import ConvertResult, DryRunResult
from comfy_mcp.settings import Settings

STDIN = "-"
MAX_NODE_LIST_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_A_WORKFLOW = "Give the path of a workflow file, or - for stdin."
_A_NODE_LIST = "Give the path of a saved answer of GET /object_info, or of GET /node_replacements."


@contextlib.contextmanager
def opened(file: str) -> Iterator[AsyncIterable[bytes]]:
    """The bytes of the file, or of stdin for `-`; any path, because the user named it.

    Raises InvalidInput (path_unreadable).
    """
    with contextlib.ExitStack() as closing:
        try:
            stream = sys.stdin.buffer if file == STDIN else closing.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise _unreadable(file, error, _A_WORKFLOW) from None
        yield _chunks(file, stream)


async def _chunks(file: str, stream: BinaryIO) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = stream.read(_CHUNK_BYTES)
        except OSError as error:  # a folder opens, and can't be read
            raise _unreadable(file, error, _A_WORKFLOW) from None
        if not chunk:
            return
        yield chunk


def _unreadable(file: str, error: OSError, next_step: str) -> InvalidInput:
    return InvalidInput(
        f"{file!r} can't be read: {error.strerror or type(error).__name__}.",
        next_step=next_step,
        code=ErrorCode.PATH_UNREADABLE,
    )


async def convert(
    settings: Settings,
    output: Output,
    *,
    files: Sequence[str],
    save_to: Path | None,
    **recorded: str | None,
) -> ExitCode:
    """Print or save each file in API format. A file that is refused is named, and the others go on."""
    if save_to is not None:
        prepare_folder(save_to)
    found: list[dict[str, Any]] = []
    worst = ExitCode.OK
    async with _judge(settings, **recorded) as judge:
        for file in files:
            try:
                with opened(file) as content:
                    result = await judge.convert(content)
                document: dict[str, Any] = {"file": file, **result.model_dump(mode="json")}
                if save_to is not None:
                    name = "stdin" if file == STDIN else Path(file).stem
                    path = save_text(json.dumps(result.graph, indent=2), save_to, name)
                    document["saved"] = str(path)
                    if path.stem != name:
                        output.note(f"{file}: saved as {path}: another file is called {name}.json")
            except BridgeError as error:
                worst = worst or exit_code_of(error)
                document = _refused(output, file, error)
            else:
                _warn(output, file, result.warnings)
                if not output.as_json:
                    saved_as = document.get("saved")
                    output.result(
                        {}, [saved_as] if saved_as else json.dumps(result.graph, indent=2).splitlines()
                    )
            found.append(document)
    if output.as_json:
        output.result({"files": found}, ())
    return worst


async def check(
    settings: Settings, output: Output, *, files: Sequence[str], **recorded: str | None
) -> ExitCode:
    """Say of each file whether it would run. Exit code 0: all of them."""
    found: list[dict[str, Any]] = []
    worst = ExitCode.OK
    async with _judge(settings, **recorded) as judge:
        for file in files:
            try:
                with opened(file) as content:
                    result = await judge.check(content)
            except BridgeError as error:
                worst = worst or exit_code_of(error)
                found.append(_refused(output, file, error))
            else:
                _warn(output, file, result.warnings)
                document = result.model_dump(mode="json", exclude={"graph", "next_step"}, context=IN_COMMANDS)
                found.append({"file": file, **document})
                if not output.as_json:
                    output.result({}, [f"{file}: {result.verdict}"])
    if output.as_json:
        output.result({"files": found}, ())
    return worst


class _Engine:
    """Converts and checks files by the engine's node list, as `Recorded` does by a recorded one."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def convert(self, content: AsyncIterable[bytes]) -> ConvertResult:
        result: ConvertResult = await self._session.call("convert_workflow", {}, content=content)
        return result

    async def check(self, content: AsyncIterable[bytes]) -> DryRunResult:
        arguments = {"dry_run": True}
        result: DryRunResult = await self._session.call("submit_workflow", arguments, content=content)
        return result


@contextlib.asynccontextmanager
async def _judge(
    settings: Settings, object_info: str | None, node_replacements: str | None
) -> AsyncIterator[Recorded | _Engine]:
    """By the recorded node list, else by the engine's."""
    if object_info is not None:
        replacements = None if node_replacements is None else read_node_list(node_replacements)
        listed, now = read_node_list(object_info), lambda: int(time.time() * 1000)
        yield Recorded(listed, settings, now, replacements, Path(object_info).name)
        return
    if node_replacements is not None:
        raise InvalidInput(
            "--node-replacements belongs to a recorded node list.",
            next_step="Give --object-info FILE too, or leave it out: the engine is asked for both.",
        )
    async with open_session(settings, drive=False) as session:
        yield _Engine(session)


def read_node_list(file: str) -> bytes:
    """Raises InvalidInput."""
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_NODE_LIST_BYTES + 1)
    except OSError as error:
        raise _unreadable(file, error, _A_NODE_LIST) from None


def _warn(output: Output, file: str, warnings: Sequence[str]) -> None:
    for warning in counted(warnings, SHOWN_WARNINGS):
        output.note(f"{file}: warning: {warning}")


def _refused(output: Output, file: str, error: BridgeError) -> dict[str, Any]:
    _warn(output, file, error.warnings)
    output.note(f"{file}: error[{error.code.value}]: {error.message}")
    if error.next_step:
        output.note(f"{file}: next: {in_commands(error.next_step)}")
    return {"file": file, **error_document(error)}
