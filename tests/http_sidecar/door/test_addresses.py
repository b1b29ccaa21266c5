"""Whose address counts."""

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from http_sidecar.door.addresses import bucket_of, client_address, is_loopback, networks_of

PROXIES = networks_of(["10.0.0.0/8", "fd00::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "198.51.100.7", "203.0.113.5"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.2.3.4", "198.51.100.7"),
        ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", ",", "10.0.0.1"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (None, "198.51.100.7", "unknown"),
    ],
)
def test_only_what_a_trusted_proxy_wrote_is_believed(
    peer: str | None, forwarded: str | None, address: str
) -> None:
    assert client_address(peer, forwarded, PROXIES) == address


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert client_address("127.0.0.1", "198.51.100.7", ()) == "127.0.0.1"


@pytest.mark.parametrize("entry", ["proxy", "10.0.0.0/40", "10.0.0", ""])
def test_a_proxy_that_is_no_address_is_a_mistake_in_the_settings(entry: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        networks_of([entry])
    assert raised.value.code is ErrorCode.CONFIGURATION


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_one_subscriber_is_one_bucket(address: str, bucket: str) -> None:
    assert bucket_of(address) == bucket


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.5", False),
        ("gpu.local", False),
        ("localhost.evil.test", False),
        ("", False),
    ],
)
def test_what_reaches_this_machine_only(host: str, local: bool) -> None:
    assert is_loopback(host) is local
