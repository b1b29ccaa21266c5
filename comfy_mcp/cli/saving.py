"""Outputs into a folder of the user's: never over another file, never outside the folder."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from comfy_mcp.cli.session import Calls
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.operations.shapes import OutputContentResult, OutputItem, WorkflowResult

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


def prepare_folder(folder: Path) -> None:
    """Make it before the work starts. Raises InvalidInput when it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


async def save_outputs(session: Calls, state: WorkflowResult, folder: Path) -> list[Path]:
    return await save_items(session, state.outputs, folder)


async def save_items(session: Calls, items: Sequence[OutputItem], folder: Path) -> list[Path]:
    """Fetch each and write it; the paths, in the order of `items`.

    A file that is there already with the same bytes is not written again; one with others gets a new name
    beside it. Raises NotFound, EngineFault, InvalidInput (the folder can't be written).
    """
    saved = []
    for item in items:
        content: OutputContentResult = await session.call("read_output", {"output_id": item.output_id})
        try:
            saved.append(await asyncio.to_thread(_write, folder, file_name(item), content.data))
        except OSError as error:
            raise _unwritable(folder, error) from None
    return saved


def file_name(item: OutputItem) -> str:
    """A plain name for the output; the engine's subfolders are left out."""
    name = _UNSAFE.sub("_", item.filename).strip(". ")
    if name:
        return name
    node = _UNSAFE.sub("_", item.node_id or "0")
    return f"{item.type}-node{node}.txt" if item.content is not None else f"{item.type}-node{node}"


def _write(folder: Path, name: str, data: bytes) -> Path:
    for path in _candidates(folder, name):
        try:
            with path.open("xb") as stream:
                stream.write(data)
        except FileExistsError:
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return path
        else:
            return path
    raise AssertionError("unreachable: the names never end")


def _candidates(folder: Path, name: str) -> "itertools.chain[Path]":
    first = folder / name
    more = (first.with_name(f"{first.stem}-{number}{first.suffix}") for number in itertools.count(2))
    return itertools.chain([first], more)


def _unwritable(folder: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"{str(folder)!r} can't be written: {error.strerror or type(error).__name__}.",
        next_step="Use -o with a folder that you may write to.",
        code=ErrorCode.PATH_UNREADABLE,
    )
