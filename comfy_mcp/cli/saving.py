"""Outputs into a folder of the user's."""

import contextlib
import errno
from collections.abc import Sequence
from pathlib import Path

from comfy_mcp.cli.session import Session
from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.media_types import UNKNOWN, media_type_of
from comfy_mcp.operations.shapes import OutputItem

NUMBERS = 10_000
"""Files of one name in a folder."""


def prepare_folder(folder: Path) -> None:
    """Make it before the work starts. Raises InvalidInput when it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from None


def prepare_place(where: Path) -> None:
    """The folder `where`, or that of a file with this name. Raises InvalidInput."""
    try:
        is_file = media_type_of(where.name) != UNKNOWN and not where.is_dir()
    except OSError as error:  # longer than a name may be
        raise _not_written(where, error) from None
    prepare_folder(where.parent if is_file else where)


def save_text(text: str, folder: Path, name: str) -> Path:
    """As NAME.json, or NAME-2.json and so on where another file has that name. Raises InvalidInput."""
    content = text.encode()
    try:
        for number in range(1, NUMBERS):
            path = folder / (f"{name}.json" if number == 1 else f"{name}-{number}.json")
            with contextlib.suppress(FileExistsError), path.open("xb") as stream:
                stream.write(content)
                return path
            if path.is_file() and path.read_bytes() == content:
                return path
        raise FileExistsError(errno.EEXIST, "too many files have that name")
    except OSError as error:
        raise _not_written(path, error) from None


async def save_items(session: Session, items: Sequence[OutputItem], where: Path) -> list[Path]:
    """Write each output to the folder or the file; the paths, in order. See `library.saving.save_at`."""
    ids = [item.output_id for item in items]
    return await session.bridge.outputs.save(ids, where, session.caller)


def _not_written(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"{str(path)!r} can't be written: {error.strerror or type(error).__name__}.",
        next_step="Use -o with a folder that you may write to.",
        code=ErrorCode.PATH_UNREADABLE,
    )
