"""API keys as operations; tests/cli/test_keys.py has what the command line makes of them."""

import pytest

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, Right, digest_of
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput, NotFound
from tests.operations.conftest import Bench


async def test_new_keys_are_long_findable_and_never_the_same(call: Bench) -> None:
    made = [(await call("add_key", name=f"client {number}")).key for number in range(20)]
    assert len(set(made)) == 20
    assert all(key.startswith("cb_") and len(key) >= 43 for key in made)
    kept = {key.digest for key in await call.services.store.keys()}
    assert kept == {digest_of(key) for key in made}


async def test_a_key_has_the_rights_that_were_asked_for(call: Bench) -> None:
    assert set((await call("add_key", name="agent")).rights) == DEFAULT_KEY_RIGHTS
    chief = await call("add_key", name="chief", rights=["admin", "read"])
    assert chief.rights == [Right.ADMIN, Right.READ]
    assert [key.name for key in (await call("list_keys")).keys] == ["agent", "chief"]
    with pytest.raises(InvalidInput):
        await call("add_key", name="thief", rights=["everything"])


async def test_a_name_is_used_once_and_is_printable(call: Bench) -> None:
    await call("add_key", name="agent")
    with pytest.raises(Conflict):
        await call("add_key", name="agent")
    for name in ("", " agent", "a\nb", "x" * 129):
        with pytest.raises(InvalidInput, match="printable"):
            await call("add_key", name=name)


async def test_a_key_is_revoked_once(call: Bench) -> None:
    await call("add_key", name="agent")
    assert (await call("revoke_key", name="agent")).text() == "agent revoked"
    listed = await call("list_keys")
    assert listed.text() == "1 keys"
    assert listed.keys[0].revoked_at is not None
    with pytest.raises(NotFound) as caught:
        await call("revoke_key", name="agent")
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert "cb_" in (await call("add_key", name="another")).text()


async def test_a_key_is_changed_in_what_is_given_and_stays_as_it_is_in_the_rest(call: Bench) -> None:
    made = await call("add_key", name="agent", max_running=2, max_queued=9, max_gpu_seconds=60)
    (digest,) = [key.digest for key in await call.services.store.keys()]
    changed = await call("change_key", name="agent", max_running=5, max_queued=0)
    assert changed.text() == "agent changed"
    assert (changed.max_running, changed.max_queued, changed.max_gpu_seconds) == (5, None, 60)
    assert changed.rights == made.rights
    assert (await call("change_key", name="agent", rights=["read"])).rights == [Right.READ]
    (kept,) = await call.services.store.keys()
    assert (kept.digest, kept.max_running, set(kept.rights)) == (digest, 5, {Right.READ})


async def test_what_changes_nothing_or_no_valid_key_is_refused(call: Bench) -> None:
    await call("add_key", name="agent")
    with pytest.raises(InvalidInput, match="nothing to change"):
        await call("change_key", name="agent")
    with pytest.raises(InvalidInput):
        await call("change_key", name="agent", max_running=-1)
    for name in ("nobody", "agent"):
        await call.services.store.revoke_key("agent", at=1)
        with pytest.raises(NotFound):
            await call("change_key", name=name, max_running=1)
