"""`Prefer` and `Idempotency-Key`, as clients write them."""

import pytest

from comfy_mcp.domain.errors import InvalidInput
from http_sidecar.door.preferences import idempotency_key, wanted_wait_s


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=10", 10),
        ("wait=10; strict", 10),
        ("wait=5, wait=10", 5),
        ("wait=0", 0),
        ("wait", None),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=1e3", None),
        ("await=5", None),
        ("wait=\u0661", None),
        (f"wait={'9' * 5000}", None),
        ("," * 5000, None),
    ],
)
def test_a_wait_is_whole_seconds_and_never_an_error(prefer: str | None, seconds: int | None) -> None:
    assert wanted_wait_s(prefer) == seconds


@pytest.mark.parametrize(
    ("header", "key"),
    [(None, None), ("abc", "abc"), (' "abc" ', "abc"), ('"', '"'), ("k" * 255, "k" * 255), ("a b", "a b")],
)
def test_a_key_is_taken_with_or_without_quotes(header: str | None, key: str | None) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "  ", "k" * 256, "k\x01", "é"])
def test_a_key_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        idempotency_key(header)
