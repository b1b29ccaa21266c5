"""URLs of outputs that need no key: signed, and good until a time."""

import base64
import hashlib
import hmac

LINK_S = 86_400
"""How long a link is good: a person opens it the same day."""


def signature(key: bytes, output_id: str, expires: int) -> str:
    """For an output until `expires`, in seconds of the epoch."""
    digest = hmac.new(key, f"output\n{output_id}\n{expires}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def holds(key: bytes, output_id: str, expires: str, given: str, *, now: int) -> bool:
    """Whether `given` was signed for this output and is good at `now`. Its time says nothing."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    right = hmac.compare_digest(
        signature(key, output_id, int(expires)).encode(), given.encode("utf-8", "replace")
    )
    return right and now < int(expires) <= now + LINK_S
