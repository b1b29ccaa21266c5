"""Subprotocols, without a server."""

import pytest

from http_sidecar.streams.tickets import offered_keys, spoken_protocols


@pytest.mark.parametrize(
    ("offered", "keys"),
    [
        ("", []),
        ("comfy-bridge.v1", []),
        ("comfy-bridge.v1, comfy-bridge.key.czNjcmV0", ["s3cret"]),
        ("comfy-bridge.key.czNjcmV0,plain", ["s3cret", "plain"]),
        ("comfy-bridge.key._-8", []),
        ("comfy-bridge.key.a", []),
        ("comfy-bridge.key.é", []),
        ("comfy-bridge.key.\udce9", []),
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
