"""The outputs of a service, kept by the bridge: a service deletes its files, and its links expire.

One folder per attempt, named by its prompt_id. A file is complete under its name or not there at all.
"""

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from comfy_mcp.domain.catalog import OutputFile, kind_of_file
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.cloud.service import Made

_PLAIN = re.compile(r"[^\w.() -]+")
NAME_CHARS = 120
"""Of a file's name: with those of other alphabets it fits into the 255 bytes of a file system."""


class KeptOutputs:
    """Several processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, prompt_id: PromptId, number: int, made: Made) -> OutputFile:
        """Fetch the file, unless it is there. `number` is its place among those of the job.

        Raises what reading it raises, and StoreFault where the disk takes nothing.
        """
        name = f"{number:03}_{_safe(made.name)}"
        target = self._folder / prompt_id / name
        if not await asyncio.to_thread(target.is_file):
            async with made.open() as chunks:
                await self._write(target, chunks)
        return OutputFile(kind=kind_of_file(name), filename=name, subfolder=prompt_id, node=made.node)

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        def stat() -> Mapping[OutputFile, int]:
            paths = {file: self._folder / file.subfolder / file.filename for file in files}
            return {file: path.stat().st_size for file, path in paths.items() if path.is_file()}

        return await asyncio.to_thread(stat)

    async def sweep(self, known: Callable[[Sequence[PromptId]], Awaitable[set[PromptId]]]) -> None:
        """Delete the files of attempts that are not `known` any more."""
        names = await asyncio.to_thread(lambda: [PromptId(path.name) for path in self._folders()])
        for gone in set(names) - await known(names):
            await asyncio.to_thread(shutil.rmtree, self._folder / gone, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.is_dir()] if self._folder.is_dir() else []

    async def _write(self, target: Path, chunks: AsyncIterator[bytes]) -> None:
        try:
            await asyncio.to_thread(target.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
            descriptor, part = await asyncio.to_thread(tempfile.mkstemp, dir=target.parent, prefix=".part-")
        except OSError as error:
            raise _full(error) from None
        try:
            with os.fdopen(descriptor, "wb") as stream:
                async for chunk in chunks:
                    await _on_disk(stream.write, chunk)
            await _on_disk(os.replace, part, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108 - also when cancelled, so not on a thread


async def _on_disk(do: Callable[..., object], *arguments: object) -> None:
    try:
        await asyncio.to_thread(do, *arguments)
    except OSError as error:
        raise _full(error) from None


def _full(error: OSError) -> StoreFault:
    return StoreFault(
        f"An output can't be kept: {error.strerror or type(error).__name__}.",
        next_step="Check the disk space and the rights of the folder of COMFY_BRIDGE_STATE_DIR.",
    )


def _safe(name: str) -> str:
    """Without folders and what a file system or a header may take amiss; the ending stays."""
    plain = _PLAIN.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip(" .")
    return plain[-NAME_CHARS:] or "output"
