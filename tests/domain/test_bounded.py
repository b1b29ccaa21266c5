"""A dictionary that forgets the oldest."""

from comfy_mcp.domain.bounded import Bounded


def test_a_new_entry_pushes_the_oldest_out() -> None:
    kept: Bounded[str, int] = Bounded(2)
    kept["a"], kept["b"], kept["a"] = 1, 2, 3
    assert dict(kept) == {"a": 3, "b": 2}
    kept["c"] = 4
    assert dict(kept) == {"b": 2, "c": 4}


def test_an_entry_that_is_taken_out_and_put_back_is_the_newest() -> None:
    kept: Bounded[str, int] = Bounded(2)
    kept["a"], kept["b"] = 1, 2
    kept["a"] = kept.pop("a")
    kept["c"] = 3
    assert list(kept) == ["a", "c"]
