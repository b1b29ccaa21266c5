"""Values in sentences: bounded in length and in number."""

import tracemalloc
from collections.abc import Callable

import pytest

from comfy_mcp.domain.shown import MAX_CHARS, MAX_VALUES, all_shown, counted, shown


@pytest.mark.parametrize(("value", "text"), [(1, "1"), ("a", "'a'"), ("x" * 100, f"'{'x' * 79}…")])
def test_a_long_value_is_cut(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(text) <= MAX_CHARS + 1


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, "it's", [], {}, [1, "a", [2]], {"a": {"b": [1]}, "c": None}, {1: 2}],
)
def test_a_short_value_is_as_python_writes_it(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 10**6,
        lambda: ["x" * 10**6],
        lambda: [1] * 10**6,
        lambda: {"x" * 10**6: 1},
        lambda: dict.fromkeys(range(10**6)),
        lambda: nested(10**5),
    ],
    ids=["text", "text in a list", "list", "name", "object", "nested"],
)
def test_what_is_not_shown_is_not_looked_at(make: Callable[[], object]) -> None:
    value = make()
    tracemalloc.start()
    text = shown(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) == MAX_CHARS + 1
    assert peak < 200_000


@pytest.mark.parametrize(("more", "end"), [(0, f"{MAX_VALUES - 1}"), (3, " and 3 more")])
def test_of_many_values_the_first_are_named_and_the_others_counted(more: int, end: str) -> None:
    text = all_shown(range(MAX_VALUES + more))
    assert text.startswith("0, 1, 2")
    assert text.endswith(end)


def test_of_many_warnings_the_first_are_kept_and_the_others_counted() -> None:
    assert counted(["a", "b"], 2) == ("a", "b")
    assert counted(["a", "b", "c"], 1) == ("a", "And 2 more warnings.")
