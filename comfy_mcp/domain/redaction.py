"""A copy of a graph or a request body without the secrets in it, for logs and display."""

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:api_?key|apikey|secret|password|passwd|credentials?|authorization|auth|bearer"
    r"|(?:access|auth|api|hf|huggingface|civitai|bearer|refresh)_?token|token)(?:_comfy_org)?$",
    re.IGNORECASE,
)


def redact(raw: Any) -> Any:
    """`raw` with the value of every member named like a secret replaced; links are left alone.

    Known ones: `extra_data.api_key_comfy_org`, `auth_token_comfy_org`, inputs such as `api_key`, `hf_token`.
    """
    if isinstance(raw, Mapping):
        return {key: REDACTED if _is_secret(key, value) else redact(value) for key, value in raw.items()}
    if isinstance(raw, list | tuple):
        return [redact(item) for item in raw]
    return raw


def _is_secret(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, str) and bool(value and _SECRET_NAME.search(name))
