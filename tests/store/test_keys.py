"""API keys."""

import pytest

from comfy_mcp.domain.access import ApiKey, Right
from comfy_mcp.domain.errors import Conflict
from comfy_mcp.store import Store


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
