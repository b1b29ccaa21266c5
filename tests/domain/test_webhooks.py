"""Webhooks: what is signed and how, when a try is made again, and which URLs can't be used."""

from datetime import UTC, datetime
from itertools import takewhile

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.webhooks import (
    ENDS,
    EVENTS,
    MAX_DELAY_S,
    Webhook,
    delay_ms,
    host_of,
    signed_headers,
    url_fault,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DAY_MS = 86_400_000


def test_the_specification_s_example_has_its_signature() -> None:
    body = b'{"test": 2432232314}'
    headers = signed_headers([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=200), st.text("abc-_0", min_size=1, max_size=40))
def test_each_secret_signs_as_the_specification_s_own_library_does(text: str, message: str) -> None:
    secrets, at = [SECRET, "whsec_" + "A" * 32], datetime.fromtimestamp(1614265330, UTC)
    body = text.encode("utf-8", "replace")
    headers = signed_headers(secrets, message, 1614265330, body)
    assert headers["webhook-signature"].split(" ") == [
        standardwebhooks.Webhook(secret).sign(message, at, body.decode()) for secret in secrets
    ]


def test_tries_are_made_for_about_a_day() -> None:
    delays = list(takewhile(lambda each: each is not None, (delay_ms(n, 0.5) for n in range(1, 100))))
    known = [each for each in delays if each is not None]
    assert known[:4] == [5_000, 10_000, 20_000, 40_000]
    assert max(known) == MAX_DELAY_S * 1000
    assert DAY_MS <= sum(known) <= 1.1 * DAY_MS
    assert (delay_ms(1, 0.0), delay_ms(1, 1.0)) == (4_000, 6_000)


@pytest.mark.parametrize(
    ("tries", "pause_s", "delay"),
    [(1, 0.0, 5_000), (1, 4.0, 5_000), (1, 60.0, 60_000), (1, 1e9, MAX_DELAY_S * 1000), (23, 60.0, None)],
)
def test_a_receiver_may_ask_for_a_longer_pause_and_for_no_more_tries(
    tries: int, pause_s: float, delay: int | None
) -> None:
    assert delay_ms(tries, 0.5, pause_s=pause_s) == delay


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://a.example/x?y=1", None),
        ("http://8.8.8.8:81/", None),
        ("http://[2001:4860:4860::8888]/", None),
        ("https://a.example:99999/", "no URL"),
        ("https://[::1", "no URL"),
        ("mailto:a@b.example", "http or https"),
        ("https:///x", "http or https"),
        ("https://u@a.example/", "no user name"),
        ("http://10.0.0.1/", "public"),
        ("http://[::ffff:10.0.0.1]/", "public"),
    ],
)
def test_a_url_can_be_used_or_says_why_not(url: str, fault: str | None) -> None:
    found = url_fault(url, private=False)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_private_addresses_may_be_allowed() -> None:
    assert url_fault("http://10.0.0.1/", private=True) is None


def test_all_ports_of_a_host_are_one_host() -> None:
    assert host_of("https://A.example:81/x") == host_of("http://user@a.example/") == "a.example"


def test_without_a_filter_the_ends_are_wanted() -> None:
    assert [each for each in EVENTS if Webhook().wants(each)] == list(ENDS)
    assert [each for each in EVENTS if Webhook(events=EVENTS[:1]).wants(each)] == [EVENTS[0]]
