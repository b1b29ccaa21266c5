"""The bytes of outputs, for surfaces that stream them: find one, open it, preview it, hash it.

A hash is computed when an output is first read, and written down beside the answers, which never wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from comfy_mcp.domain.catalog import Output, OutputFound, OutputQuery
from comfy_mcp.domain.errors import EngineBadAnswer, NotFound, StoreFault
from comfy_mcp.library import OutputContent, OutputData, Preview, Span
from comfy_mcp.library.saving import save_at
from comfy_mcp.operations.catalog import find_output
from comfy_mcp.operations.context import Caller, OperationContext

if TYPE_CHECKING:
    from comfy_mcp.operations.services import Services

__all__ = ["OutputContent", "Outputs", "Span", "replaced"]

log = structlog.get_logger(__name__)

FOUND = 1_000
"""Hashes that wait to be written. One that finds no room is dropped: the next answer computes it again."""

PAUSE_S = 0.25
"""Between the first hash and its write: small outputs that are read one after the other make one write."""


class Outputs:
    """What a caller may see is decided by `find`; the rest takes what it returned."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._found: asyncio.Queue[OutputFound] = asyncio.Queue(FOUND)

    async def find(self, name: str, caller: Caller) -> Output:
        """By id, or the newest of that file name. Raises NotFound, also for what the caller may not see."""
        try:
            return await find_output(OperationContext(services=self._services, caller=caller), name)
        except NotFound:
            whose = None if caller.sees_all else caller.client
            query = OutputQuery(filename=name, client=whose, limit=1)
            page = await self._services.store.list_outputs(query)
            if not page.items:
                raise
            return page.items[0]

    def link_allows(self, output_id: str, expires: str, signature: str) -> bool:
        """Whether a signed link to the output is good now."""
        return self._services.links.allows(output_id, expires, signature)

    def link(self, output_id: str) -> tuple[str, int]:
        """The query of a signed link to the output, and when it ends in seconds of the epoch."""
        return self._services.links.signed(output_id)

    def open(self, output: Output, *, part: Span | None = None) -> AbstractAsyncContextManager[OutputContent]:
        """See library/outputs.py for this and the next three."""
        return self._services.outputs.open(output, part=part)

    async def size(self, output: Output) -> int | None:
        """See library/outputs.py. What is found is written down."""
        size = await self._services.outputs.size(output)
        if size is not None and output.size is None:
            self._note(output, size, None)
        return size

    async def read_small(self, output: Output, *, limit: int) -> OutputData | None:
        return await self._services.outputs.read_small(output, limit=limit)

    async def save(self, ids: Sequence[str], where: Path, caller: Caller) -> list[Path]:
        """See `library.saving.save_at`. For a person at this machine: any folder will do."""
        context = OperationContext(services=self._services, caller=caller)
        found = [await find_output(context, output_id) for output_id in ids]
        return await save_at(self._services.outputs, found, where)

    async def preview(
        self,
        output: Output,
        caller: Caller,
        *,
        max_px: int | None = None,
        box: tuple[int, int] | None = None,
    ) -> Preview:
        return await self._services.outputs.preview(output, client=caller.client, max_px=max_px, box=box)

    async def hash_of(self, output: Output) -> str:
        """SHA-256 of an output that has none yet, by reading it through once. Raises what `open` raises."""
        digest, size = hashlib.sha256(), 0
        async with self.open(output) as content:
            async for chunk in content.chunks:
                digest.update(chunk)
                size += len(chunk)
            if content.file is not None:
                await content.file.note(digest.hexdigest())
        self._note(output, size, digest.hexdigest())
        return digest.hexdigest()

    def hash_of_data(self, output: Output, data: bytes) -> str:
        """The same of one that has been read already."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._note(output, len(data), sha256)
        return sha256

    async def checked(
        self, output: Output, content: OutputContent, sha256: str | None
    ) -> AsyncIterator[bytes]:
        """All but the end is passed on as it comes; the last piece only when the whole is what it should be.

        A file that was hashed before and left alone since is not hashed again. Raises EngineBadAnswer.
        """
        known = content.file if content.file is not None and content.file.was_hashed_as(sha256) else None
        digest, size, held = hashlib.sha256(), 0, b""
        async for chunk in content.chunks:
            if held:
                yield held
            if known is None:
                digest.update(chunk)
            size += len(chunk)
            held = chunk
        if known is not None:
            right = await known.still_holds(sha256)
        else:
            found = digest.hexdigest()
            right = sha256 in (None, found)
            if sha256 is None:
                self._note(output, size, found)
            if content.file is not None:
                await content.file.note(found)
        if not right:
            raise replaced(output)
        if held:
            yield held

    async def run(self) -> None:
        """Write down the hashes that were found, until cancelled."""
        while True:
            first = await self._found.get()
            await asyncio.sleep(PAUSE_S)
            found = [first, *(self._found.get_nowait() for _ in range(self._found.qsize()))]
            try:
                await self._services.store.update_outputs(found)
            except StoreFault as fault:
                log.warning("hashes_not_kept", outputs=len(found), code=fault.code.value)

    def _note(self, output: Output, size: int, sha256: str | None) -> None:
        if not self._found.full():
            self._found.put_nowait(OutputFound(id=output.id, size=size, sha256=sha256))


def replaced(output: Output) -> EngineBadAnswer:
    return EngineBadAnswer(
        f"Output {output.id} has changed: another file has this name now.",
        next_step="Run the workflow again to create it.",
    )
