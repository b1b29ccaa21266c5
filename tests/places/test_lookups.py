"""Host names are looked up on threads of their own, of which each client has a share."""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfy_mcp.places.downloads import Downloads
from comfy_mcp.places.lookups import Lookups
from comfy_mcp.places.posting import Posted, Poster
from tests.support.webhook_receiver import receiving

LIMIT_S = 30.0


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names that end in `.hung` get no answer before the event is set."""
    go_on, resolve = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        if str(host).endswith(".hung"):
            go_on.wait(LIMIT_S)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield go_on
    go_on.set()


async def test_a_name_becomes_addresses() -> None:
    for family in (socket.AF_UNSPEC, socket.AF_INET):
        found = await Lookups().of("ann").resolve("localhost", 81, family)
        assert {"127.0.0.1", "::1"} >= {each["host"] for each in found}
        assert {(each["hostname"], each["port"]) for each in found} == {("localhost", 81)}


async def test_an_address_of_one_link_keeps_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 81, 0, 3))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (one,) = await Lookups().of(None).resolve("near", 81, socket.AF_INET6)
    assert (one["host"], one["family"]) == ("fe80::1%3", socket.AF_INET6)


async def test_a_client_whose_names_get_no_answer_leaves_lookups_to_others(hung: threading.Event) -> None:
    lookups = Lookups(at_once=4, limit_s=0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await lookups.of("mean").resolve("a.hung")
    with pytest.raises(OSError, match="places for lookups") as caught:  # the threads hang still
        await lookups.of("mean").resolve("a.hung")
    assert caught.value.errno == errno.EAGAIN
    async with asyncio.timeout(LIMIT_S):
        for client in ("kind", None):
            assert await lookups.of(client).resolve("localhost")
        hung.set()
        while not lookups._places.has_room("mean") or lookups._places._free < 4:
            await asyncio.sleep(0)
        assert await lookups.of("mean").resolve("localhost")


SENT: dict[str, Callable[[str], Any]] = {
    "webhook": lambda url: Poster(private=True)(url, {}, b"{}"),
    "download": lambda url: Downloads(private=True)(url, 100).__aenter__(),
}


@pytest.mark.parametrize("way", SENT)
async def test_names_that_get_no_answer_hold_up_no_other_work(hung: threading.Event, way: str) -> None:
    """More lookups than asyncio has threads, and each of those is free."""
    async with asyncio.timeout(LIMIT_S), receiving() as receiver, asyncio.TaskGroup() as group:
        waiting = [group.create_task(SENT[way](f"http://{number}.hung/")) for number in range(60)]
        threads = [each for each in threading.enumerate() if each.name == "lookup"]
        while len(threads) < len(waiting):
            await asyncio.sleep(0)
            threads = [each for each in threading.enumerate() if each.name == "lookup"]
        assert await asyncio.to_thread(int, "7") == 7
        url = receiver.url.replace("127.0.0.1", "localhost")
        assert await Poster(private=True)(url, {}, b"{}") == Posted()
        for each in waiting:
            each.cancel()


async def test_a_client_with_too_many_lookups_reads_why(
    hung: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    poster = Poster(private=True)
    poster._lookups = Lookups(at_once=0)
    answer = await poster("http://a.hung/", {}, b"{}")
    assert answer.error == "too many host names are being looked up now"
