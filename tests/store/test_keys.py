"""API keys."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_mcp.domain.access import ApiKey, Right
from comfy_mcp.domain.errors import Conflict
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from tests.support.invariants import check_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(load_settings(state_dir=tmp_path))
    yield store
    await check_store(store)
    await store.close()


def key(name: str, digest: str = "0" * 64) -> ApiKey:
    return ApiKey(name=name, digest=digest, rights=frozenset({Right.READ, Right.SUBMIT}), created_at=5)


async def test_a_key_is_kept_listed_and_revoked_once(store: Store) -> None:
    await store.add_key(key("ci"))
    await store.add_key(key("anna", "1" * 64))
    assert await store.keys() == [key("anna", "1" * 64), key("ci")]
    assert await store.revoke_key("ci", at=9)
    assert not await store.revoke_key("ci", at=10)
    assert not await store.revoke_key("nobody", at=10)
    assert [each.revoked_at for each in await store.keys()] == [None, 9]


async def test_a_name_is_never_given_out_twice(store: Store) -> None:
    await store.add_key(key("ci"))
    await store.revoke_key("ci", at=9)
    with pytest.raises(Conflict, match="ci"):
        await store.add_key(key("ci", "2" * 64))
