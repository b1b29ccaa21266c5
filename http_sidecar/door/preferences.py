"""The request headers of a submit: `Prefer` (RFC 7240) and `Idempotency-Key`. Pure."""

import re

from comfy_mcp.domain.errors import InvalidInput

KEY_LIMIT = 255

_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)


def wanted_wait_s(prefer: str | None) -> int | None:
    """N of `wait=N`; the first counts (RFC 7240 §2). None without one: a preference is never an error."""
    for preference in (prefer or "").split(","):
        found = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if found is not None:
            return int(found[1])
    return None


def idempotency_key(header: str | None) -> str | None:
    """As it is, or without the quotes that draft-ietf-httpapi-idempotency-key-header asks for.

    Raises InvalidInput for one that is empty, too long, or not printable ASCII.
    """
    if header is None:
        return None
    text = header.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not 0 < len(text) <= KEY_LIMIT or not (text.isascii() and text.isprintable()):
        raise InvalidInput(
            f"Idempotency-Key must be 1 to {KEY_LIMIT} printable ASCII characters.",
            next_step="Send a UUID, for example.",
        )
    return text
