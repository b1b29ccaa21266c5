"""Values in sentences: bounded in length and in number."""

import pytest

from comfy_mcp.domain.shown import MAX_CHARS, MAX_VALUES, all_shown, shown


@pytest.mark.parametrize(("value", "text"), [(1, "1"), ("a", "'a'"), ("x" * 100, f"'{'x' * 79}…")])
def test_a_long_value_is_cut(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(text) <= MAX_CHARS + 1


@pytest.mark.parametrize(("more", "end"), [(0, f"{MAX_VALUES - 1}"), (3, " and 3 more")])
def test_of_many_values_the_first_are_named_and_the_others_counted(more: int, end: str) -> None:
    text = all_shown(range(MAX_VALUES + more))
    assert text.startswith("0, 1, 2")
    assert text.endswith(end)
