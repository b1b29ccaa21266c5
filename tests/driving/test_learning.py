"""What a process remembers of how long nodes took."""

from collections.abc import Collection, Mapping

import pytest

from comfy_mcp.driving import learning
from comfy_mcp.driving.learning import Durations


class Kept:
    """A store in which every key took as many milliseconds as it has letters. `asked`: how many at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def node_durations(self, class_types: Collection[str]) -> Mapping[str, float]:
        self.asked.append(len(class_types))
        return {name: float(len(name)) for name in class_types}

    async def observe_durations(self, observed: Mapping[str, list[float]]) -> None:
        raise AssertionError("nothing was observed")


async def test_each_key_is_asked_for_once() -> None:
    store = Kept()
    durations = Durations(store, lambda: 0.0)
    for _ in range(2):
        assert await durations.known(["a", "bb"]) == {"a": 1.0, "bb": 2.0}
    assert store.asked == [2]


async def test_keys_that_clients_choose_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "KEPT", 10)
    store = Kept()
    durations = Durations(store, lambda: 0.0)
    for number in range(100):
        assert await durations.known(["a", str(number)]) == {"a": 1.0, str(number): len(str(number))}
    assert 5 < len(store.asked) - store.asked.count(1) < 15, "`a` is asked for again when all were forgotten"
    assert len(durations._asked) <= 12
    many = {str(number) for number in range(30)}
    assert (await durations.known(many)).keys() == many, "however many one graph has"
