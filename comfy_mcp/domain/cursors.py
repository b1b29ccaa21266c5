"""Cursors of lists: a position as opaque text. A cursor from a caller may be anything."""

import base64
import binascii
import json

from comfy_mcp.domain.errors import InvalidInput


def cursor_of(position: object) -> str:
    """`position` is anything that JSON can say."""
    text = json.dumps(position, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def position_in(cursor: str) -> object:
    """Decode a cursor; the caller checks the shape of the value. Raises InvalidInput."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError, binascii.Error):
        raise invalid_cursor() from None


def invalid_cursor() -> InvalidInput:
    return InvalidInput(
        "The cursor does not come from this server.",
        next_step="Omit it to start with the first page.",
    )
