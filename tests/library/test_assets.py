"""Uploaded files with ids: per client, kept while they are used, and never more than their records say."""

import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_mcp.domain.errors import LimitExceeded, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.library import Span
from comfy_mcp.library.assets import KEPT_S, Asset, Assets
from comfy_mcp.library.spool import Spool

ANNA, BEN = ClientId("anna"), ClientId("ben")


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 3):
        yield data[at : at + 3]


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    return Assets(tmp_path / "assets", Spool(tmp_path / "spool"), limit=1_000)


async def add(
    assets: Assets, data: bytes = b"GIF89a and more", client: ClientId = ANNA, name: str = "a.gif"
) -> Asset:
    made = await assets.add(chunks(data), client, name=name, media_type="image/gif")
    assert made is not None
    return made[0]


async def bytes_of(assets: Assets, asset: Asset, start: int = 0, stop: int | None = None) -> bytes:
    async with assets.open(asset, Span(start=start, stop=asset.size if stop is None else stop)) as parts:
        return b"".join([part async for part in parts])


def age(folder: Path, seconds: float) -> None:
    for file in folder.iterdir():
        os.utime(file, (time.time() - seconds,) * 2)


async def test_the_same_bytes_of_a_client_are_one_asset_and_of_two_clients_two(
    assets: Assets, tmp_path: Path
) -> None:
    first, again, other = await add(assets), await add(assets, name="b.gif"), await add(assets, client=BEN)
    assert (first.id, first.created_at) == (again.id, again.created_at)
    assert first.id != other.id
    assert {first.kept, again.kept, other.kept} == {first.kept}
    assert [each.name for each in (tmp_path / "spool").iterdir()] == [first.kept]
    assert (await assets.find(first.id)) is not None
    found = await assets.of_hash(first.hash, ANNA)
    assert found is not None
    assert found.name == "b.gif"
    assert await assets.of_hash("blake3:nonsense", ANNA) is None
    assert await bytes_of(assets, first, 3, 6) == b"89a"
    assert await bytes_of(assets, first) == b"GIF89a and more"


async def test_what_is_too_large_or_not_as_expected_leaves_nothing(assets: Assets, tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded):
        await add(assets, b"x" * 1_001)
    assert (
        await assets.add(chunks(b"x"), ANNA, name="x", media_type="a/b", expected="blake3:" + "0" * 64)
        is None
    )
    assert list((tmp_path / "spool").iterdir()) == []
    assert not (tmp_path / "assets").exists()
    assert await assets.kept() == set()


async def test_an_asset_lives_a_day_after_its_last_use(assets: Assets, tmp_path: Path) -> None:
    asset = await add(assets)
    age(tmp_path / "assets", KEPT_S - 60)
    assert await assets.kept() == {asset.kept}
    found = await assets.find(asset.id)  # used
    assert found is not None
    assert found.expires_at > time.time() * 1000 + (KEPT_S - 60) * 1000
    age(tmp_path / "assets", KEPT_S + 60)
    assert await assets.find(asset.id) is None
    assert await assets.kept() == set()
    assert list((tmp_path / "assets").iterdir()) == []
    assert await add(assets) is not None


async def test_records_that_are_damaged_or_whose_bytes_are_gone_are_none(
    assets: Assets, tmp_path: Path
) -> None:
    asset = await add(assets)
    (record,) = (tmp_path / "assets").iterdir()
    text = record.read_text()
    for wrong in ("", "[]", "7", json.dumps({"id": asset.id})):
        record.write_text(wrong)
        assert await assets.find(asset.id) is None
        assert await assets.kept() == set()
    record.write_text(text)
    assert await assets.find(asset.id) is not None
    for name in ("../spool/x", record.name, "", asset.id.upper()):
        assert await assets.find(name) is None
    (tmp_path / "spool" / asset.kept).unlink()
    assert await assets.find(asset.id) is None
    with pytest.raises(NotFound):
        await bytes_of(assets, asset)
    await assets.delete(asset)
    await assets.delete(asset)
    assert list((tmp_path / "assets").iterdir()) == []
