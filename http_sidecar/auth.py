"""Who calls: API keys, and what each may do."""

from dataclasses import dataclass

from comfy_mcp.domain.access import ALL_RIGHTS, Right
from comfy_mcp.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a key belongs to. `name` is the client that its jobs are submitted as."""

    name: str
    rights: frozenset[Right] = ALL_RIGHTS


class KeyRing:
    """The keys that this process accepts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
