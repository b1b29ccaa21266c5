"""Assets as surfaces have them: who may do what, and who sees whose."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import Denied, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.library import Span
from comfy_mcp.operations.assets import Asset, Assets, reference
from comfy_mcp.operations.context import Caller
from tests.operations.conftest import Bench


async def content() -> AsyncIterator[bytes]:
    yield b"GIF89a"


def client(name: str, *rights: Right) -> Caller:
    return Caller(client=ClientId(name), surface="http", rights=frozenset(rights))


ANNA = client("anna", Right.READ, Right.SUBMIT)


async def added(assets: Assets, caller: Caller = ANNA) -> Asset:
    made = await assets.add(content(), caller, name="a.gif", media_type="image/gif", expected=None)
    assert made is not None
    return made[0]


async def test_a_client_has_its_own_assets_and_an_admin_sees_all(call: Bench) -> None:
    assets = Assets(call.services)
    asset = await added(assets)
    assert reference(asset) == f"bridge-files/{asset.kept}"
    assert (await assets.find(asset.id, ANNA)).id == asset.id
    assert (await assets.find(asset.id, client("root", Right.ADMIN))).id == asset.id
    with pytest.raises(NotFound):
        await assets.find(asset.id, replace(ANNA, client=ClientId("ben")))
    with pytest.raises(NotFound):
        await assets.find("nothing", ANNA)
    found = await assets.of_hash(asset.hash, ANNA)
    assert found is not None
    assert (await assets.renamed(found, "b.gif")).name == "b.gif"
    async with assets.open(asset, Span(start=0, stop=3)) as chunks:
        assert [chunk async for chunk in chunks] == [b"GIF"]
    await assets.delete(asset, ANNA)
    with pytest.raises(NotFound):
        await assets.find(asset.id, ANNA)


async def test_who_may_not_submit_may_not_upload_find_or_delete(call: Bench) -> None:
    assets, reader = Assets(call.services), client("anna", Right.READ)
    asset = await added(assets)
    with pytest.raises(Denied):
        await added(assets, reader)
    with pytest.raises(Denied):
        await assets.of_hash(asset.hash, reader)
    with pytest.raises(Denied):
        await assets.delete(asset, reader)
