"""Hide values whose names stand for secrets."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice

HIDDEN = "***"
MAX_DEPTH = 8
MAX_MEMBERS = 100
MAX_ITEMS = 20
MAX_VALUE_CHARS = 500
MAX_VALUES = 1_000

_SECRET_NAME = re.compile(
    r"authorization|cookie|credential|headers|passw|secret|token|(?:^|[-_])key$|api[-_]?key", re.IGNORECASE
)


def names_a_secret(name: str) -> bool:
    """Whether a value of this name is hidden. In doubt it is: `max_tokens` is hidden too."""
    return _SECRET_NAME.search(name) is not None


def without_values(text: str, secrets: Iterable[str]) -> str:
    """A text in which nothing of `secrets` is left."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def without_secrets(value: object) -> object:
    """A bounded copy of outside data, with the values of secret names replaced.

    ComfyUI has some of its own: `extra_data.api_key_comfy_org`, `auth_token_comfy_org`.
    """
    return _copy(value, 0, [MAX_VALUES])


def _copy(value: object, depth: int, left: list[int]) -> object:
    """`left`: how many values it may still have, in all."""
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        return "…"
    if isinstance(value, Mapping):
        named = ((str(key)[:MAX_VALUE_CHARS], item) for key, item in islice(value.items(), MAX_MEMBERS))
        return {
            name: HIDDEN if names_a_secret(name) else _copy(item, depth + 1, left) for name, item in named
        }
    if isinstance(value, list):
        return [_copy(item, depth + 1, left) for item in value[:MAX_ITEMS]]
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return f"{value[:MAX_VALUE_CHARS]}…"
    return value
