"""Tickets and subprotocols, without a server."""

import pytest

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from http_sidecar.streams.tickets import TICKETS_PER_CLIENT, Tickets, offered_keys, spoken_protocols

ALICE = Caller(client=ClientId("alice"), surface="http")
BOB = Caller(client=ClientId("bob"), surface="http")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_good_once_and_for_a_while() -> None:
    clock = Clock()
    tickets = Tickets(ttl_s=30, clock=clock)
    first, second, third = tickets.issue(ALICE), tickets.issue(BOB), tickets.issue(ALICE)
    assert len({first, second, third}) == 3
    clock.now = 29.9
    assert tickets.redeem(second) is BOB
    assert tickets.redeem(second) is None
    assert tickets.redeem(first) is ALICE
    clock.now = 30.0
    assert tickets.redeem(third) is None
    assert tickets.redeem("") is None


def test_a_client_has_a_bounded_number_of_them_and_pushes_out_its_own_only() -> None:
    clock = Clock()
    tickets = Tickets(ttl_s=30, clock=clock)
    other = tickets.issue(BOB)
    own = [tickets.issue(ALICE) for _ in range(TICKETS_PER_CLIENT + 1)]
    assert tickets.redeem(own[0]) is None
    assert [tickets.redeem(ticket) for ticket in own[1:]] == [ALICE] * TICKETS_PER_CLIENT
    assert tickets.redeem(other) is BOB


def test_expired_tickets_make_room() -> None:
    clock = Clock()
    tickets = Tickets(ttl_s=30, clock=clock)
    old = [tickets.issue(ALICE) for _ in range(TICKETS_PER_CLIENT)]
    clock.now = 31.0
    new = [tickets.issue(ALICE) for _ in range(TICKETS_PER_CLIENT)]
    assert [tickets.redeem(ticket) for ticket in new] == [ALICE] * TICKETS_PER_CLIENT
    assert {tickets.redeem(ticket) for ticket in old} == {None}


@pytest.mark.parametrize(
    ("offered", "keys"),
    [
        ("", []),
        ("comfy-bridge.v1", []),
        ("comfy-bridge.v1, comfy-bridge.key.czNjcmV0", ["s3cret"]),
        ("comfy-bridge.key.czNjcmV0,plain", ["s3cret", "plain"]),
        ("comfy-bridge.key._-8", []),
        ("comfy-bridge.key.4pyT, comfy-bridge.ticket.x", ["✓"]),
        (" , ,plain", ["plain"]),
        (",".join(f"p{number}" for number in range(20)), [f"p{number}" for number in range(8)]),
    ],
)
def test_keys_among_the_subprotocols(offered: str, keys: list[str]) -> None:
    assert offered_keys({"Sec-WebSocket-Protocol": offered}) == keys
    assert offered_keys({}) == []


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [
        ("", ()),
        ("comfy-bridge.key.x, comfy-bridge.v1", ("comfy-bridge.v1",)),
        ("a, b", ("a", "b")),
    ],
)
def test_there_is_always_a_subprotocol_to_choose(offered: str, spoken: tuple[str, ...]) -> None:
    assert spoken_protocols({"Sec-WebSocket-Protocol": offered}) == spoken
