"""What an Accept header asks for. The pages' and the metrics' own tests have the headers of real clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.accept import preferred

OFFERED = ("text/a", "text/b")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", None),
        ("*/*, text/*", None),
        ("text/b", "text/b"),
        ("text/b, text/a", "text/a"),
        ("Text/A;q=0.1 , TEXT/B ; Q=0.200", "text/b"),
        ("text/a;q=0.1, text/b;q=0.2, text/a;q=0.3", "text/a"),
        ("text/a;q=1.000;q=0", None),
        ("text/a;q=1.1", None),
        ("text/a;q=0.1234", None),
        ("text/a;q=", None),
        ("text/a;charset=utf-8", "text/a"),
    ],
)
def test_the_greatest_weight_wins(accept: str, wanted: str | None) -> None:
    assert preferred(accept, OFFERED) == wanted


@given(st.text("text/abq=;,.01 *"))
def test_whatever_comes_is_one_of_those_on_offer_or_none(accept: str) -> None:
    assert preferred(accept, OFFERED) in {*OFFERED, None}
