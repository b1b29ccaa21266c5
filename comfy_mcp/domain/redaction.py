"""Hide values whose names stand for secrets."""

import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"
MAX_DEPTH = 8
MAX_MEMBERS = 100
MAX_ITEMS = 20
MAX_VALUE_CHARS = 500

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


def without_secrets(value: object, depth: int = 0) -> object:
    """A bounded copy of outside data, with the values of secret names replaced.

    ComfyUI has some of its own: `extra_data.api_key_comfy_org`, `auth_token_comfy_org`.
    """
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if names_a_secret(str(key)) else without_secrets(item, depth + 1)
            for key, item in list(value.items())[:MAX_MEMBERS]
        }
    if isinstance(value, list):
        return [without_secrets(item, depth + 1) for item in value[:MAX_ITEMS]]
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return f"{value[:MAX_VALUE_CHARS]}…"
    return value
