"""Tickets, without a server."""

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from http_sidecar.door.tickets import TICKETS_PER_CLIENT, Tickets

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
