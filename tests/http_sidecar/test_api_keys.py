"""The key ring: which keys count, and whose they are."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from comfy_mcp.domain.access import ALL_RIGHTS, ApiKey, Right, digest_of
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.settings import load_settings
from http_sidecar import api_keys
from http_sidecar.api_keys import Identity, KeyRing, key_of

ANN = ApiKey(name="ann", digest=digest_of("ann-key"), rights=frozenset({Right.READ}), created_at=1)


class Table:
    """A store's keys, which may be out of reach."""

    def __init__(self, *keys: ApiKey) -> None:
        self.entries = list(keys)
        self.down = False
        self.marked = False
        self.full = False
        self.reads = 0

    async def keys(self) -> list[ApiKey]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.down:
            raise StoreFault("out of reach", next_step="wait")
        return list(self.entries)

    async def keys_required(self) -> bool:
        return self.marked

    async def require_keys(self) -> None:
        if self.full:
            raise StoreFault("The disk is full.", next_step="free some")
        self.marked = True


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "REFRESH_S", 0.0)


async def test_without_any_key_none_is_asked_for() -> None:
    ring = KeyRing(load_settings(), Table())
    assert not await ring.required()
    assert await ring.identify("anything") is None


async def test_the_key_of_the_settings_may_do_everything_as_this_processes_client() -> None:
    ring = KeyRing(load_settings(http_key="secret", client_name="me"))
    assert await ring.required()
    identity = await ring.identify("secret")
    assert identity is not None
    assert (identity.client, identity.rights) == ("me", ALL_RIGHTS)
    for wrong in ("Secret", "secret ", "", "s", digest_of("secret")):
        assert await ring.identify(wrong) is None


async def test_a_key_of_the_store_has_its_own_name_and_rights() -> None:
    ring = KeyRing(load_settings(http_key="secret"), Table(ANN))
    identity = await ring.identify("ann-key")
    assert identity is not None
    assert identity == Identity(client=ClientId("ann"), rights=frozenset({Right.READ}))


async def test_a_key_added_or_revoked_elsewhere_counts(no_cache: None) -> None:
    table = Table()
    ring = KeyRing(load_settings(), table)
    assert not await ring.required()
    table.entries.append(ANN)
    assert await ring.required()
    assert await ring.identify("ann-key") is not None
    table.entries[0] = replace(ANN, revoked_at=2)
    assert await ring.identify("ann-key") is None
    assert await ring.required(), "revoking the last key locks the door, it does not open it"


async def test_keys_that_are_lost_with_the_store_leave_the_door_locked(no_cache: None) -> None:
    table = Table(ANN)
    assert await KeyRing(load_settings(), table).required()
    table.entries.clear()
    for ring in (KeyRing(load_settings(), table), KeyRing(load_settings(), table)):
        assert await ring.required()
        assert await ring.locked()
        assert await ring.identify("ann-key") is None
    table.entries.append(replace(ANN, name="new", digest=digest_of("new-key")))
    assert not await ring.locked(), "a new key unlocks"
    assert await ring.identify("new-key") is not None


async def test_a_key_that_was_taken_out_of_the_settings_locks_nobody_out(no_cache: None) -> None:
    table = Table()
    assert await KeyRing(load_settings(http_key="secret"), table).required()
    assert not await KeyRing(load_settings(), table).required()


async def test_deleting_the_marker_counts_for_the_next_process_only(no_cache: None) -> None:
    table = Table(ANN)
    ring = KeyRing(load_settings(), table)
    assert await ring.required()
    table.entries.clear()
    table.marked = False
    assert await ring.required(), "a door does not open while somebody serves"
    table.marked = False
    assert not await KeyRing(load_settings(), table).required()


async def test_a_marker_that_cannot_be_written_keeps_nobody_with_a_key_out(no_cache: None) -> None:
    table = Table(ANN)
    table.full = True
    assert await KeyRing(load_settings(), table).identify("ann-key") is not None


async def test_the_store_is_read_now_and_then_and_once_for_all_who_wait() -> None:
    table = Table(ANN)
    ring = KeyRing(load_settings(), table)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ring.identify("ann-key")) for _ in range(50)]
    assert all(task.result() is not None for task in asking)
    assert table.reads == 1


async def test_keys_known_so_far_count_while_the_store_is_out_of_reach(no_cache: None) -> None:
    table = Table(ANN)
    ring = KeyRing(load_settings(), table)
    assert await ring.identify("ann-key") is not None
    table.down = True
    assert await ring.identify("ann-key") is not None
    assert await ring.identify("guess") is None


async def test_before_the_first_read_nobody_is_let_in(no_cache: None) -> None:
    table = Table()
    table.down = True
    ring = KeyRing(load_settings(), table)
    with pytest.raises(StoreFault):
        await ring.required()
    with pytest.raises(StoreFault):
        await ring.identify("anything")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"X-API-Key": "k"}, "k"),
        ({"X-API-Key": "  "}, None),
        ({"Authorization": "Bearer k"}, "k"),
        ({"Authorization": "bearer   k "}, "k"),
        ({"Authorization": "Basic k"}, None),
        ({"Authorization": "Bearer"}, None),
        ({"X-API-Key": "", "Authorization": "Bearer k"}, "k"),
        ({"X-API-Key": "x", "Authorization": "Bearer k"}, "x"),
    ],
)
def test_the_key_is_in_either_header(headers: dict[str, str], key: str | None) -> None:
    request: web.Request = make_mocked_request("GET", "/", headers=headers)
    assert key_of(request) == key
