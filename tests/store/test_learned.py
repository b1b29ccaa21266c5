import pytest

from comfy_mcp.store import Store
from comfy_mcp.store.learned import MEMORY


async def test_durations_are_means_of_what_was_seen(store: Store) -> None:
    await store.observe_durations({"KSampler": [100.0, 300.0], "SaveImage": [5.0], "Nothing": []})
    await store.observe_durations({"KSampler": [500.0]})
    known = await store.node_durations(["KSampler", "SaveImage", "Nothing", "Unknown"])
    assert known == {"KSampler": pytest.approx(300.0), "SaveImage": pytest.approx(5.0)}
    assert await store.node_durations([]) == {}


async def test_durations_follow_a_machine_that_changed(store: Store) -> None:
    await store.observe_durations({"N": [100.0] * 1000})
    await store.observe_durations({"N": [200.0] * MEMORY * 3})
    assert (await store.node_durations(["N"]))["N"] > 190.0


async def test_a_hash_is_of_one_state_of_a_file(store: Store) -> None:
    assert await store.file_hash("/m/a", 10, 20) is None
    await store.put_file_hash("/m/a", 10, 20, "aa")
    assert await store.file_hash("/m/a", 10, 20) == "aa"
    assert await store.file_hash("/m/a", 11, 20) is None
    assert await store.file_hash("/m/a", 10, 21) is None
    await store.put_file_hash("/m/a", 11, 21, "bb")
    assert await store.file_hash("/m/a", 11, 21) == "bb"
    assert await store.file_hash("/m/a", 10, 20) is None
