"""Files that clients upload ahead of their jobs, by an id and by what they hold (blake3).

The bytes lie in the spool, like those of any other input file. A record beside it, one small file for each
client and content, says what the client calls it. An asset is kept for KEPT_S after its last use.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID, uuid4

from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.domain.file_inputs import suffix_for
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.library.output_content import Span
from comfy_mcp.library.spool import CHUNK_BYTES, Spool

if TYPE_CHECKING:
    from blake3 import blake3

KEPT_S = 86_400
"""After the last use. A client that has the bytes sends them again when they are gone."""

NAME_CHARS = 255
_HASH = re.compile(r"blake3:[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """`hash` is `blake3:<hex>`, `kept` the name in the spool, `used_at` in epoch milliseconds."""

    id: str
    client: ClientId
    hash: str
    kept: str
    name: str
    media_type: str
    size: int
    created_at: int
    used_at: int = 0

    @property
    def expires_at(self) -> int:
        return self.used_at + KEPT_S * 1000


class Assets:
    """`folder` has the records. Several processes share it."""

    def __init__(self, folder: Path, spool: Spool, *, limit: int) -> None:
        self._folder = folder
        self._spool = spool
        self._limit = limit

    async def add(
        self,
        chunks: AsyncIterable[bytes],
        client: ClientId,
        *,
        name: str,
        media_type: str,
        expected: str | None = None,
        share: ClientId | None = None,
    ) -> tuple[Asset, bool] | None:
        """The asset, and whether its bytes are new to this client; None: they are not what was `expected`.
        `share`: as of `Spool.receive`.

        Raises LimitExceeded, InvalidInput (path_unreadable), and what reading the chunks raises.
        """
        from blake3 import blake3  # most processes hash no upload

        digest = blake3()
        hashed = _hashed(chunks, digest)
        async with self._spool.receive(hashed, limit=self._limit, client=share) as received:
            found = f"blake3:{digest.hexdigest()}"
            if expected not in {None, found}:
                return None
            known = await self.of_hash(found, client)
            kept = (
                await self._spool.keep(received, suffix_for(name, received.head))
                if known is None
                else known.kept
            )
            asset = Asset(
                id=_id_of(client, found),
                client=client,
                hash=found,
                kept=kept,
                name=name[:NAME_CHARS],
                media_type=media_type,
                size=received.size,
                created_at=_now_ms() if known is None else known.created_at,
            )
            return await self._write(asset), known is None

    async def find(self, asset_id: str) -> Asset | None:
        """It counts as used now."""
        if not _ID.fullmatch(asset_id):
            return None
        asset = await asyncio.to_thread(self._read, asset_id)
        if asset is None or asset.expires_at <= _now_ms() or not await self._spool.touch(asset.kept):
            return None
        with contextlib.suppress(OSError):  # another process has deleted it: whoever uses it sees that
            await asyncio.to_thread(os.utime, self._path(asset_id))
        return replace(asset, used_at=_now_ms())

    async def of_hash(self, found: str, client: ClientId) -> Asset | None:
        """The client's asset with this content; never another client's."""
        return await self.find(_id_of(client, found)) if _HASH.fullmatch(found) else None

    async def renamed(self, asset: Asset, name: str) -> Asset:
        return await self._write(replace(asset, name=name[:NAME_CHARS]))

    async def delete(self, asset: Asset) -> None:
        """The bytes go with the next sweep, unless a job or another client names them."""
        await asyncio.to_thread(self._path(asset.id).unlink, missing_ok=True)

    @contextlib.asynccontextmanager
    async def open(self, asset: Asset, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of this part. Raises NotFound for a file that has gone meanwhile."""
        opened = await self._spool.open(asset.kept)
        if opened is None:
            raise no_asset(asset.id)
        with opened[0] as stream:
            yield _read(stream, span)

    async def kept(self) -> set[str]:
        """The names in the spool that assets need. Records that have expired are deleted."""
        return await asyncio.to_thread(lambda: set(self._needed()))

    async def _write(self, asset: Asset) -> Asset:
        await asyncio.to_thread(self._replace, asset)
        return replace(asset, used_at=_now_ms())

    def _replace(self, asset: Asset) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = {name: value for name, value in asdict(asset).items() if name != "used_at"}
        made = self._folder / f".{uuid4().hex}"
        made.write_text(json.dumps(record), encoding="utf-8")
        made.replace(self._path(asset.id))

    def _read(self, asset_id: str) -> Asset | None:
        path = self._path(asset_id)
        try:
            record, used = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            return Asset(**record, used_at=round(used * 1000))
        except (OSError, ValueError, TypeError):
            return None

    def _needed(self) -> Iterator[str]:
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            for each in found:
                asset = self._read(each.name.removesuffix(".json"))
                if asset is not None and asset.expires_at > _now_ms():
                    yield asset.kept
                elif _age_s(each) > KEPT_S:
                    Path(each.path).unlink(missing_ok=True)

    def _path(self, asset_id: str) -> Path:
        return self._folder / f"{asset_id}.json"


def no_asset(asset_id: str) -> NotFound:
    return NotFound(
        f"Asset {asset_id[:64]} not found.",
        next_step="Upload the file again: an asset is kept for a day after its last use.",
        code=ErrorCode.NOT_FOUND,
    )


async def _read(stream: BinaryIO, span: Span) -> AsyncIterator[bytes]:
    left = len(span)
    await asyncio.to_thread(stream.seek, span.start)
    while left and (chunk := await asyncio.to_thread(stream.read, min(CHUNK_BYTES, left))):
        left -= len(chunk)
        yield chunk


async def _hashed(chunks: AsyncIterable[bytes], digest: "blake3") -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _id_of(client: ClientId, found: str) -> str:
    """The same for the same client and content, so that no index is needed."""
    return str(UUID(bytes=hashlib.sha256(f"{client}\n{found}".encode()).digest()[:16], version=5))


def _age_s(entry: "os.DirEntry[str]") -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except OSError:
        return 0.0


def _now_ms() -> int:
    return round(time.time() * 1000)
