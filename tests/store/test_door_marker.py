"""The marker beside the store says that keys were in use, whatever becomes of the store."""

import stat
from pathlib import Path

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS, ApiKey, digest_of
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store, door_marker
from http_sidecar.api_keys import KeyRing
from tests.support import postgres

KEY = ApiKey(name="ann", digest=digest_of("k"), rights=ALL_RIGHTS, created_at=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path)


async def with_a_key(settings: Settings) -> None:
    store = await Store.open(settings)
    assert not await store.keys_required()
    await store.add_key(KEY)
    assert await store.keys_required()
    await store.close()


@pytest.mark.parametrize("loss", ["deleted", "emptied", "damaged"])
async def test_a_store_that_lost_its_keys_still_knows_that_it_had_some(settings: Settings, loss: str) -> None:
    await with_a_key(settings)
    path = settings.store_path
    for side in path.parent.glob("bridge.sqlite3-*"):
        side.unlink()
    if loss == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"" if loss == "emptied" else b"x" * 8192)
    store = await Store.open(settings)
    assert await store.keys() == []
    assert await store.keys_required()
    await store.close()


async def test_a_database_that_lost_its_keys_leaves_every_machine_that_knew_of_them_locked(
    tmp_path: Path,
) -> None:
    """On PostgreSQL each machine has the marker in its own state folder, since its first look at the keys."""
    here, there = tmp_path / "here", tmp_path / "there"
    url = postgres.shared().database()
    await with_a_key(load_settings(state_dir=here, store=url))
    other = await Store.open(load_settings(state_dir=there, store=url))
    ring = KeyRing(load_settings(state_dir=there), other)
    assert await ring.required()
    await other.close()
    empty = postgres.shared().database()
    for folder in (here, there):
        store = await Store.open(load_settings(state_dir=folder, store=empty))
        assert await store.keys() == []
        assert await store.keys_required()
        ring = KeyRing(load_settings(state_dir=folder), store)
        assert (await ring.required(), await ring.locked()) == (True, True)
        await store.close()


async def test_the_marker_says_how_to_unlock_and_is_its_owners(settings: Settings) -> None:
    await with_a_key(settings)
    marker = door_marker.marker_of(settings.store_path)
    assert "delete this file" in marker.read_text(encoding="utf-8")
    assert stat.S_IMODE(marker.stat().st_mode) == 0o600


async def test_a_marker_that_cannot_be_written_is_a_fault_of_the_store(settings: Settings) -> None:
    store = await Store.open(settings)
    door_marker.marker_of(settings.store_path).mkdir()
    with pytest.raises(StoreFault):
        await store.require_keys()
    await store.close()
