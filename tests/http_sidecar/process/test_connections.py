"""How many connections may be open, and which one makes room for a new one."""

import resource

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from http_sidecar.door.addresses import networks_of
from http_sidecar.process import connections as module
from http_sidecar.process.connections import MOST, Connections, raise_file_limit
from http_sidecar.process.runner import Runner


class Line:
    """A connection."""

    def __init__(self) -> None:
        self.cut = False

    def force_close(self) -> None:
        self.cut = True


def opened(connections: Connections, count: int, address: str = "10.0.0.1") -> list[Line]:
    """Those of them that there was room for."""
    lines = [Line() for _ in range(count)]
    return [line for line in lines if connections.opened(line, address)]


def test_a_new_connection_takes_the_place_of_the_one_that_is_idle_for_longest() -> None:
    connections = Connections(most=3, most_per_address=3)
    first, second, third = opened(connections, 3)
    connections.busy(first)
    (new,) = opened(connections, 1, "10.0.0.2")
    assert [line.cut for line in (first, second, third, new)] == [False, True, False, False]
    connections.idle(first)
    opened(connections, 1, "10.0.0.3")
    assert (third.cut, first.cut) == (True, False), "an answered request makes it the youngest again"


def test_where_nobody_is_idle_the_new_one_is_refused() -> None:
    connections = Connections(most=2, most_per_address=2)
    for line in opened(connections, 2):
        connections.busy(line)
    assert opened(connections, 1, "10.0.0.2") == []
    assert len(connections) == 2


def test_one_address_has_a_part_of_them_and_displaces_its_own_only() -> None:
    connections = Connections(most=4, most_per_address=2)
    (other,) = opened(connections, 1, "10.0.0.2")
    mine = opened(connections, 5)
    assert [line.cut for line in mine] == [True, True, True, False, False]
    assert not other.cut
    assert len(opened(connections, 1, "10.0.0.3")) == 1


def test_an_ipv6_subscriber_is_one_address() -> None:
    connections = Connections(most=10, most_per_address=2)
    for host in range(5):
        opened(connections, 1, f"2001:db8::{host}")
    assert len(connections) == 2


def test_a_trusted_proxy_brings_many_clients_and_has_no_bound_of_its_own() -> None:
    connections = Connections(most=4, most_per_address=1, proxies=networks_of(["10.0.0.1"]))
    assert len(opened(connections, 3)) == 3
    assert len(connections) == 3


def test_the_bounds_are_well_under_the_limit_of_open_files() -> None:
    for limit, most in ((256, 128), (1_024, 512), (65_536, MOST), (1, 1)):
        connections = Connections.within(limit)
        opened(connections, most + 10, "10.0.0.1")
        assert len(connections) == max(1, most // 2)


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "busy", "idle", "close"]), st.integers(0, 3), st.integers(0, 9))
    )
)
def test_never_more_than_allowed_and_no_busy_one_is_cut(steps: list[tuple[str, int, int]]) -> None:
    connections = Connections(most=5, most_per_address=3)
    held: list[tuple[Line, str]] = []
    busy: set[Line] = set()
    for step, address, which in steps:
        if step == "open":
            line, name = Line(), f"10.0.0.{address}"
            if connections.opened(line, name):
                held.append((line, name))
        elif held:
            line, name = held[which % len(held)]
            {"busy": connections.busy, "idle": connections.idle, "close": connections.closed}[step](line)
            if step == "close":
                held.remove((line, name))
            busy = busy | {line} if step == "busy" else busy - {line}
        assert not any(line.cut for line in busy)
        held = [(line, name) for line, name in held if not line.cut]
        assert len(connections) == len(held) <= 5
        assert all(sum(other == name for _, other in held) <= 3 for _, name in held)
    for line, _ in held:
        connections.closed(line)
    assert not len(connections)
    assert (connections._counts, connections._idle, connections._all_idle) == ({}, {}, {})


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given_limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: given_limits.append(limits))
    assert raise_file_limit() == 4_096
    assert given_limits == [(4_096, 4_096)]


def test_no_more_files_than_wanted_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given_limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1_024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: given_limits.append(limits))
    assert raise_file_limit() == module.WANTED_FILES
    assert given_limits == [(module.WANTED_FILES, resource.RLIM_INFINITY)]


def test_a_limit_that_cannot_be_raised_is_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_which: int, _limits: tuple[int, int]) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 1_024


async def test_a_runner_keeps_to_the_bounds_that_it_is_given() -> None:
    """Also while no connection is open: then they are empty, and false."""
    given_bounds = Connections(most=4, most_per_address=1, proxies=networks_of(["10.0.0.1"]))
    runner = Runner(web.Application(), send_timeout_s=1.0, connections=given_bounds)
    assert runner._connections is given_bounds
