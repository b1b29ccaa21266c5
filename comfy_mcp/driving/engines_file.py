"""Reads the file of engines again whenever it changes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.settings import EngineGroup, EngineSettings

EVERY_S = 1.0
"""Pause between two checks of the file's time and size. That works on every file system, also where a file is
replaced through links, as Kubernetes does; notifications do not."""

log = structlog.get_logger(__name__)


class EnginesFile:
    """`problem`: why the file as it is now can't be used; then the engines are those of before."""

    def __init__(self, settings: EngineGroup, *, every_s: float = EVERY_S) -> None:
        self._settings = settings
        self._every_s = every_s
        self.problem: str | None = None

    async def follow(self, take: Callable[[Sequence[EngineSettings]], Awaitable[None]]) -> None:
        """Give the engines to `take`, now and after each change, until cancelled."""
        path, seen = self._settings.engines_file, object()
        assert path is not None
        while True:
            stamp = await asyncio.to_thread(_stamp, path)
            if stamp != seen:
                seen = stamp
                await self._read(take)
            await asyncio.sleep(self._every_s)

    async def _read(self, take: Callable[[Sequence[EngineSettings]], Awaitable[None]]) -> None:
        try:
            wanted = await asyncio.to_thread(self._settings.read_engines)
        except InvalidInput as error:
            self.problem = f"{error.message} The engines of before are used. {error.next_step}"
            log.warning("engines_file_not_read", error=error.message)
        else:
            self.problem = None
            await take(wanted)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
