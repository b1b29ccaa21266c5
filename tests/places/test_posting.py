"""One try to deliver a webhook: to public addresses only, without redirects, within its time."""

import asyncio
import socket
import time
from email.utils import formatdate

import pytest

from comfy_mcp.places.posting import Posted, Poster
from tests.support.webhook_receiver import receiving

HEADERS = {"webhook-id": "msg_1", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("status", "posted"),
    [
        (200, Posted()),
        (204, Posted()),
        (302, Posted(error="the answer is HTTP 302; redirects are not followed")),
        (410, Posted(error="the answer is HTTP 410", gone=True)),
        (500, Posted(error="the answer is HTTP 500")),
        (0, Posted(error="it closed the connection")),
        (-1, Posted(error="it does not answer in time")),
    ],
)
async def test_an_answer_says_what_came_of_it(status: int, posted: Posted) -> None:
    async with receiving(lambda: status) as receiver:
        answer = await Poster(private=True, timeout_s=5 if status >= 0 else 0.2)(receiver.url, HEADERS, b"{}")
        (got,) = receiver.got
    assert answer == posted
    assert (got.id, got.body) == ("msg_1", b"{}")


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("120", 120, 120),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("in an hour", 3_500, 3_600),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("9" * 30, 999_999_999, 999_999_999),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 0, 0),
    ],
)
async def test_the_pause_that_the_receiver_asks_for_is_in_the_answer(
    said: str, least: float, most: float
) -> None:
    if said == "in an hour":
        said = formatdate(time.time() + 3_600, usegmt=True)
    async with receiving(lambda: 503) as receiver:
        receiver.retry_after = said
        answer = await Poster(private=True)(receiver.url, HEADERS, b"{}")
    assert answer.error == "the answer is HTTP 503"
    assert least <= answer.pause_s <= most


async def test_nothing_is_sent_to_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever name leads there."""
    async with receiving() as receiver:
        url = receiver.url
        for each in (url, url.replace("127.0.0.1", "localhost")):
            answer = await Poster(private=False)(each, HEADERS, b"{}")
            assert answer.error is not None
            assert "is not on the public internet" in answer.error
        assert receiver.got == []


async def test_what_is_not_there_is_an_answer_too() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert await Poster(private=True)(url, HEADERS, b"{}") == Posted(error="nothing answers there")
    async with asyncio.timeout(30):
        assert (await Poster(private=True)("ftp://a.example/", HEADERS, b"{}")).error is not None


@pytest.mark.parametrize("host", ["a..b", ".com", "a" * 64 + ".com"])
async def test_a_host_name_that_can_be_none_is_an_answer_too(host: str) -> None:
    assert (
        await Poster(private=True)(f"https://{host}/x", HEADERS, b"{}")
    ).error == "its host name is not valid"
