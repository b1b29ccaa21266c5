"""Workflow files: read them for a call, convert them, check them."""

import contextlib
import json
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from comfy_mcp.cli.exits import ExitCode, exit_code_of
from comfy_mcp.cli.output import IN_COMMANDS, Output, error_document, in_commands
from comfy_mcp.cli.saving import prepare_folder
from comfy_mcp.cli.session import Session, open_session
from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput
from comfy_mcp.operations.checking import Recorded
from comfy_mcp.operations.shapes import ConvertResult, DryRunResult
from comfy_mcp.settings import Settings

STDIN = "-"
MAX_NODE_LIST_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20


@contextlib.contextmanager
def opened(file: str) -> Iterator[AsyncIterable[bytes]]:
    """The bytes of the file, or of stdin for `-`; any path, because the user named it.

    Raises InvalidInput (path_unreadable).
    """
    with contextlib.ExitStack() as closing:
        try:
            stream = sys.stdin.buffer if file == STDIN else closing.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise _unreadable(file, error) from None
        yield _chunks(file, stream)


async def _chunks(file: str, stream: BinaryIO) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = stream.read(_CHUNK_BYTES)
        except OSError as error:  # a folder opens, and can't be read
            raise _unreadable(file, error) from None
        if not chunk:
            return
        yield chunk


def _unreadable(file: str, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"{file!r} can't be read: {error.strerror or type(error).__name__}.",
        next_step="Give the path of a workflow file, or - for stdin.",
        code=ErrorCode.PATH_UNREADABLE,
    )


async def convert(
    settings: Settings,
    output: Output,
    *,
    files: Sequence[str],
    object_info: str | None,
    save_to: Path | None,
) -> ExitCode:
    """Print or save each file in API format. A file that is refused is named, and the others go on."""
    if save_to is not None:
        prepare_folder(save_to)
    saved: set[Path] = set()
    found: list[dict[str, Any]] = []
    worst = ExitCode.OK
    async with _judge(settings, object_info) as judge:
        for file in files:
            try:
                with opened(file) as content:
                    result = await judge.convert(content)
                document: dict[str, Any] = {"file": file, **result.model_dump(mode="json")}
                if save_to is not None:
                    document["saved"] = str(_save(result.graph, file, files, save_to, saved))
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
    settings: Settings, output: Output, *, files: Sequence[str], object_info: str | None
) -> ExitCode:
    """Say of each file whether it would run. Exit code 0: all of them."""
    found: list[dict[str, Any]] = []
    worst = ExitCode.OK
    async with _judge(settings, object_info) as judge:
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
                    output.result({}, [f"{file}: would run ({result.node_count} nodes)"])
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
async def _judge(settings: Settings, object_info: str | None) -> AsyncIterator[Recorded | _Engine]:
    """By the recorded node list, else by the engine's."""
    if object_info is not None:
        yield _recorded(settings, object_info)
        return
    async with open_session(settings, drive=False) as session:
        yield _Engine(session)


def _recorded(settings: Settings, object_info: str) -> Recorded:
    return Recorded(read_node_list(object_info), settings, lambda: int(time.time() * 1000))


def read_node_list(file: str) -> bytes:
    """Raises InvalidInput."""
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_NODE_LIST_BYTES + 1)
    except OSError as error:
        raise _unreadable(file, error) from None


def _save(graph: Mapping[str, Any], file: str, files: Sequence[str], folder: Path, saved: set[Path]) -> Path:
    """Raises InvalidInput rather than write over one of the files that are read, or over another result."""
    path = folder / f"{'stdin' if file == STDIN else Path(file).stem}.json"
    if path in saved or any(each != STDIN and _same(path, Path(each)) for each in files):
        raise InvalidInput(
            f"{str(path)!r} is one of the given files, or the result of another one.",
            next_step="Use -o with another folder, or convert the files one by one.",
        )
    try:
        path.write_text(json.dumps(graph, indent=2), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"{str(path)!r} can't be written: {error.strerror or type(error).__name__}.",
            next_step="Use -o with a folder that you may write to.",
            code=ErrorCode.PATH_UNREADABLE,
        ) from None
    saved.add(path)
    return path


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _warn(output: Output, file: str, warnings: Sequence[str]) -> None:
    for warning in warnings:
        output.note(f"{file}: warning: {warning}")


def _refused(output: Output, file: str, error: BridgeError) -> dict[str, Any]:
    _warn(output, file, error.warnings)
    output.note(f"{file}: error[{error.code.value}]: {error.message}")
    if error.next_step:
        output.note(f"{file}: next: {in_commands(error.next_step)}")
    return {"file": file, **error_document(error)}
