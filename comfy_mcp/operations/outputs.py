"""The bytes of outputs, for surfaces that stream them: find one, open it, preview it, keep its hash."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from comfy_mcp.domain.catalog import Output, OutputQuery
from comfy_mcp.domain.errors import NotFound
from comfy_mcp.domain.ids import OutputId
from comfy_mcp.library import OutputContent, OutputData, Preview, Span
from comfy_mcp.operations.catalog import find_output
from comfy_mcp.operations.context import Caller, OperationContext

if TYPE_CHECKING:
    from comfy_mcp.operations.services import Services

__all__ = ["OutputContent", "Outputs", "Span"]


class Outputs:
    """What a caller may see is decided by `find`; the rest takes what it returned."""

    def __init__(self, services: Services) -> None:
        self._services = services

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

    def open(self, output: Output, *, part: Span | None = None) -> AbstractAsyncContextManager[OutputContent]:
        """See library/outputs.py for this and the next three."""
        return self._services.outputs.open(output, part=part)

    async def size(self, output: Output) -> int | None:
        return await self._services.outputs.size(output)

    async def read(self, output: Output, *, limit: int) -> OutputData:
        return await self._services.outputs.read(output, limit=limit)

    async def preview(
        self, output: Output, *, max_px: int | None = None, box: tuple[int, int] | None = None
    ) -> Preview:
        return await self._services.outputs.preview(output, max_px=max_px, box=box)

    async def keep_hash(self, output_id: OutputId, *, size: int, sha256: str) -> None:
        """What reading an output has shown. Raises StoreFault."""
        await self._services.store.update_output(output_id, size=size, sha256=sha256)
