"""sha256 of model files, computed in the background, one file at a time, each only once."""

import asyncio
import threading
from collections.abc import Iterable
from typing import Protocol

import structlog

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.library.model_files import FileKey, hash_file

log = structlog.get_logger(__name__)

_MAX_WANTED = 20_000
_MAX_REMEMBERED = 100_000


class HashCache(Protocol):
    """Hashes that outlive the process. Both raise StoreFault."""

    async def file_hash(self, path: str, size: int, mtime_ns: int) -> str | None: ...

    async def put_file_hash(self, path: str, size: int, mtime_ns: int, sha256: str) -> None: ...


class ModelHashes:
    """Hashes of the requested files, newest request last.

    The queue holds 20,000 files; what comes beyond is dropped and queued again when it is listed again.
    """

    def __init__(self, cache: HashCache | None) -> None:
        self._cache = cache
        self._known: Bounded[FileKey, str | None] = Bounded(_MAX_REMEMBERED)
        self._wanted: dict[FileKey, None] = {}
        self._something_wanted = asyncio.Event()

    async def get(self, keys: Iterable[FileKey]) -> dict[FileKey, str]:
        """The hashes that are known by now; the others are queued."""
        found: dict[FileKey, str] = {}
        for key in keys:
            known = self._known.get(key) or await self._cached(key)
            if known is not None:
                found[key] = known
            elif key not in self._known and len(self._wanted) < _MAX_WANTED:
                self._wanted.setdefault(key)
                self._something_wanted.set()
        return found

    async def run(self) -> None:
        """Hash requested files until cancelled."""
        while True:
            await self._something_wanted.wait()
            while self._wanted:
                key = next(iter(self._wanted))
                # Another process may have done it since it was queued.
                sha256 = await self._cached(key) or await self._hash(key)
                self._wanted.pop(key, None)
                self._remember(key, sha256)
            self._something_wanted.clear()

    async def _hash(self, key: FileKey) -> str | None:
        stop = threading.Event()
        try:
            sha256 = await asyncio.to_thread(hash_file, key, stop)
        except OSError as error:
            log.warning("model_not_hashed", path=key.path, cause=type(error).__name__)
            return None
        finally:
            stop.set()  # cancelled: the thread ends with its next block
        if sha256 is not None and self._cache is not None:
            try:
                await self._cache.put_file_hash(key.path, key.size, key.mtime_ns, sha256)
            except StoreFault as error:
                log.warning("model_hash_not_stored", path=key.path, code=error.code)
        return sha256

    async def _cached(self, key: FileKey) -> str | None:
        if self._cache is None or key in self._known:
            return None
        try:
            sha256 = await self._cache.file_hash(key.path, key.size, key.mtime_ns)
        except StoreFault:
            return None
        if sha256 is not None:
            self._remember(key, sha256)
        return sha256

    def _remember(self, key: FileKey, sha256: str | None) -> None:
        """None is remembered too: a file that can't be read is not tried again until it changes."""
        self._known[key] = sha256
