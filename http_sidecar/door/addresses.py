"""Who is at the other end of a connection: proxies believed only where the settings name them."""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from comfy_mcp.domain.errors import ErrorCode, InvalidInput

Network = IPv4Network | IPv6Network


def networks_of(entries: Collection[str]) -> tuple[Network, ...]:
    """Raises InvalidInput (`configuration`) for what is neither an address nor a network."""
    try:
        return tuple(ip_network(entry, strict=False) for entry in entries)
    except ValueError:
        raise InvalidInput(
            "A trusted proxy is neither an IP address nor a network.",
            next_step="Set COMFY_BRIDGE_TRUSTED_PROXIES to a list like 10.0.0.5,172.16.0.0/12.",
            code=ErrorCode.CONFIGURATION,
        ) from None


def client_address(peer: str | None, forwarded_for: str | None, proxies: Collection[Network]) -> str:
    """The client's address: the last one in X-Forwarded-For that no trusted proxy has, if the peer is one.

    What stands left of it was written by the client and says nothing. `unknown` where there is no peer.
    """
    address = peer or "unknown"
    for hop in reversed((forwarded_for or "").split(",")):
        if not is_in(address, proxies) or _parsed(hop.strip()) is None:
            break
        address = hop.strip()
    return address


@lru_cache(maxsize=256)
def bucket_of(address: str) -> str:
    """Whom a limit is for: an IPv4 address, or an IPv6 /64, which is what one subscriber has."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed) if parsed is not None else address


def is_loopback(host: str) -> bool:
    """Whether to listen on `host` reaches this machine only."""
    parsed = _parsed(host)
    return host == "localhost" if parsed is None else parsed.is_loopback


def is_in(address: str, networks: Collection[Network]) -> bool:
    """Whether it is an address of one of them."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


@lru_cache(maxsize=256)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    # ::ffff:10.0.0.5 is how a socket for both families shows an IPv4 peer.
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
