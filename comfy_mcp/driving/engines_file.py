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

REALLY_NONE = "Write the engines into it again. If there shall be none, leave a comment in it."

log = structlog.get_logger(__name__)


class EnginesFile:
    """`problem`: why the file as it is now can't be used; then the engines are those of before."""

    def __init__(self, settings: EngineGroup, *, every_s: float = EVERY_S) -> None:
        self._settings = settings
        self._every_s = every_s
        self.problem: str | None = None
        self._some = bool(settings.engines)

    async def follow(self, take: Callable[[Sequence[EngineSettings]], Awaitable[None]]) -> None:
        """Give the engines to `take`, now and after each change, until cancelled."""
        path, seen = self._settings.engines_file, object()
        assert path is not None
        while True:
            stamp = await asyncio.to_thread(_stamp, path)
            if stamp != seen and (stamp is not None or self._some):  # else there is no file yet
                await self._read(take, stamp[1] if stamp else 0)
            seen = stamp
            await asyncio.sleep(self._every_s)

    async def _read(self, take: Callable[[Sequence[EngineSettings]], Awaitable[None]], size: int) -> None:
        """A file that was cut to nothing, by a full disk or between two writes of an editor, removes no
        engine."""
        try:
            wanted = await asyncio.to_thread(self._settings.read_engines)
        except InvalidInput as error:
            self._keep(error.message, error.next_step)
            return
        if self._some and not size:
            self._keep("The file of engines is empty.", REALLY_NONE)
        else:
            self.problem = None
            self._some = bool(wanted)
            await take(wanted)

    def _keep(self, because: str, next_step: str | None) -> None:
        self.problem = f"{because} The engines of before are used. {next_step}"
        log.warning("engines_file_not_read", error=because)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
