"""Files that clients upload ahead of their jobs, for surfaces whose contract has them.

A graph names one like any other kept file (`reference`). For the bytes of outputs see operations/outputs.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.file_inputs import kept_name
from comfy_mcp.library import Span
from comfy_mcp.library.assets import Asset, no_asset
from comfy_mcp.operations.context import Caller, require_right

if TYPE_CHECKING:
    from comfy_mcp.operations.services import Services

__all__ = ["Asset", "Assets", "reference"]


class Assets:
    """A caller sees its own; who sees all sees those of others by their ids."""

    def __init__(self, services: Services) -> None:
        self._assets = services.assets

    async def add(
        self,
        content: AsyncIterable[bytes],
        caller: Caller,
        *,
        name: str,
        media_type: str,
        expected: str | None,
    ) -> tuple[Asset, bool] | None:
        """See library/assets.py. Raises Denied as well."""
        require_right(caller, Right.SUBMIT, "Uploading an asset")
        return await self._assets.add(
            content,
            caller.client,
            name=name,
            media_type=media_type,
            expected=expected,
            share=caller.share,
        )

    async def of_hash(self, found: str, caller: Caller) -> Asset | None:
        """Raises Denied."""
        require_right(caller, Right.SUBMIT, "An asset by its hash")
        return await self._assets.of_hash(found, caller.client)

    async def renamed(self, asset: Asset, name: str) -> Asset:
        return await self._assets.renamed(asset, name)

    async def find(self, asset_id: str, caller: Caller) -> Asset:
        """Raises NotFound, also for what the caller may not see."""
        asset = await self._assets.find(asset_id)
        if asset is None or not caller.may_see(asset.client):
            raise no_asset(asset_id)
        return asset

    async def delete(self, asset: Asset, caller: Caller) -> None:
        """Raises Denied."""
        require_right(caller, Right.SUBMIT, "Deleting an asset")
        await self._assets.delete(asset)

    def open(self, asset: Asset, span: Span) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of this part. Raises NotFound for a file that has gone meanwhile."""
        return self._assets.open(asset, span)


def reference(asset: Asset) -> str:
    """What a graph says for it."""
    return kept_name(asset.kept)
