"""Which Host and Origin a request may name: a web page must not reach this service through the browser of
somebody near it (DNS rebinding, cross-site posts)."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from comfy_mcp.domain.errors import Denied

ANY = "*"


def host_allowed(host: str | None, allowed: Collection[str]) -> bool:
    """`host` is the Host header. An IP address is no name that DNS could point elsewhere."""
    name = _hostname(f"//{host}") if host else None
    if name is None:
        return False
    return ANY in allowed or name in allowed or host in allowed or _is_localhost(name) or _is_address(name)


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """`origin` is the Origin header, which only browsers send. Allowed are pages of this very server (`host`,
    the Host header, already found good), and what `allowed` lists. Another port of this machine is another
    server, and may show anybody's pages."""
    if origin is None:
        return True
    name = _hostname(origin)
    if name is None:  # "null" too: a sandboxed frame or a file
        return ANY in allowed
    return ANY in allowed or origin in allowed or urlsplit(origin).netloc.lower() == (host or "").lower()


def foreign_page() -> Denied:
    return Denied(
        "Web pages of this origin may not call the API.",
        next_step="Add the origin to COMFY_BRIDGE_CORS_ORIGINS.",
    )


def embeds(headers: Mapping[str, str], allowed: Collection[str]) -> bool:
    """Whether a page of another site makes its browser ask for a part of itself: a picture, a script, a form.

    Such a request may have no Origin; browsers say it by Sec-Fetch-Site. A link that is followed is no
    part of the page that has it.
    """
    if headers.get("Sec-Fetch-Site") != "cross-site" or ANY in allowed or headers.get("Origin") in allowed:
        return False
    return (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) != ("navigate", "document")


@lru_cache(maxsize=256)
def _hostname(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number or out of range
    except ValueError:
        return None
    return parts.hostname if parts.username is None and not parts.path else None


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
