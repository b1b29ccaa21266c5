"""The configured model folders: scanned once, watched, scanned again after a change."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

import structlog

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.library.model_files import Scan, scan_models

log = structlog.get_logger(__name__)

UNWATCHED_TTL_S = 2.0
"""How long a scan is valid while the folders are not watched."""

LOOK_AGAIN_S = 5.0
"""Interval of scans of folders that are missing or can't be watched."""

POLL_DELAY_MS = 2000
_SCANS_BEFORE_WATCHING_AGAIN = 12


class _WatchFailed(Exception):
    pass


class ModelDisk:
    """One scan at a time; it continues if its caller stops waiting.

    `watched` is set while changes are seen as they happen; a scan is then good until one is seen.
    """

    def __init__(
        self,
        *,
        models_dir: Path | None,
        folders: Mapping[str, Path],
        force_polling: bool,
        timeout_s: float,
        debounce_ms: int = 500,
    ) -> None:
        self._models_dir = models_dir
        self._folders = dict(folders)
        self._force_polling = force_polling
        self._timeout_s = timeout_s
        self._debounce_ms = debounce_ms
        self.watched = asyncio.Event()
        self._generation = 0
        self._scan: Scan | None = None
        self._scanned_at = (0.0, -1)
        self._seen: Scan | None = None
        self._scanning: asyncio.Future[Scan] | None = None
        self._scanning_from = (0.0, -1)

    @property
    def is_configured(self) -> bool:
        return self._models_dir is not None or bool(self._folders)

    async def scan(self) -> Scan:
        """The files in the folders. Raises LimitExceeded (path_unreadable) while a slow disk is read."""
        if self._scan is not None and self._is_fresh(self._scanned_at):
            return self._scan
        loop = asyncio.get_running_loop()
        if self._scanning is None or not self._is_fresh(self._scanning_from):
            self._scanning_from = (loop.time(), self._generation)
            self._scanning = loop.run_in_executor(None, scan_models, self._models_dir, self._folders)
        scanning, started = self._scanning, self._scanning_from
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await asyncio.shield(scanning)
        except TimeoutError:
            raise LimitExceeded(
                "The bridge is still reading the model folders.",
                next_step="Try again in a minute.",
                code=ErrorCode.PATH_UNREADABLE,
            ) from None
        if self._scanning is scanning:
            self._scanning = None
        if started > self._scanned_at:
            self._scan, self._scanned_at = found, started
        return found

    async def watch(self, on_change: Callable[[], Awaitable[None]]) -> None:
        """Watch until cancelled; `on_change` is called when files were added or removed."""
        try:
            while True:
                await self._tell_if_different(on_change)
                roots = await asyncio.to_thread(self._present_roots)
                if not roots:
                    await asyncio.sleep(LOOK_AGAIN_S)
                    continue
                try:
                    await self._watch_until_roots_change(roots, on_change)
                except _WatchFailed as error:
                    log.warning("model_watch_failed", cause=str(error), now="scanning now and then")
                    self._trust_no_scan()
                    for _ in range(_SCANS_BEFORE_WATCHING_AGAIN):
                        await self._tell_if_different(on_change)
                        await asyncio.sleep(LOOK_AGAIN_S)
        finally:
            self._trust_no_scan()

    async def _watch_until_roots_change(
        self, roots: Mapping[Path, int], on_change: Callable[[], Awaitable[None]]
    ) -> None:
        async with aclosing(self._changes(roots)) as changes:
            async for came_or_went in changes:
                if not self.watched.is_set():
                    # The first word says that the watch is on: what happened before it was on is not in it.
                    self.watched.set()
                    self._generation += 1
                    await self._tell_if_different(on_change)
                if came_or_went is not None:
                    self._generation += 1
                if came_or_went:
                    self._seen = None
                    await on_change()
                if await asyncio.to_thread(self._present_roots) != roots:
                    break
        self._trust_no_scan()

    async def _changes(self, roots: Mapping[Path, int]) -> AsyncGenerator[bool | None, None]:
        """True: files were added or removed. False: files were written. None: no event for a while."""
        from watchfiles import Change, awatch

        watch = awatch(
            *roots,
            watch_filter=None,
            debounce=self._debounce_ms,
            rust_timeout=int(LOOK_AGAIN_S * 1000),
            yield_on_timeout=True,
            force_polling=self._force_polling or None,  # None: watchfiles decides (it polls on WSL)
            poll_delay_ms=POLL_DELAY_MS,
            ignore_permission_denied=True,
        )
        try:
            async with aclosing(watch):
                async for changes in watch:
                    yield any(change is not Change.modified for change, _ in changes) if changes else None
        except (OSError, RuntimeError, ExceptionGroup) as error:
            # No more inotify watches, a folder gone meanwhile; polling also fails on a loop of links.
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            raise _WatchFailed(str(cause)) from None

    async def _tell_if_different(self, on_change: Callable[[], Awaitable[None]]) -> None:
        """Scan and compare with the last scan."""
        seen = self._seen or self._scan
        if seen is None:
            return  # nobody looked yet: nothing can differ
        self._seen = now = await asyncio.to_thread(scan_models, self._models_dir, self._folders)
        if now != seen:
            self._generation += 1
            await on_change()

    def _trust_no_scan(self) -> None:
        self.watched.clear()
        self._generation += 1

    def _present_roots(self) -> dict[Path, int]:
        configured = [self._models_dir, *self._folders.values()]
        found: dict[Path, int] = {}
        for root in configured:
            try:
                if root is not None and root.is_dir():
                    found[root] = root.stat().st_ino
            except OSError:
                continue
        return found

    def _is_fresh(self, when: tuple[float, int]) -> bool:
        at, generation = when
        if generation != self._generation:
            return False
        return self.watched.is_set() or asyncio.get_running_loop().time() - at < UNWATCHED_TTL_S
