"""API keys: which there are, and whom a key belongs to.

What a request shows is hashed and compared with every key's digest in constant time.
"""

import asyncio
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Protocol

import structlog
from aiohttp import web

from comfy_mcp.domain.access import ALL_RIGHTS, ApiKey, Right, digest_of
from comfy_mcp.domain.errors import Denied, ErrorCode, StoreFault
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.settings import Settings

log = structlog.get_logger(__name__)

SURFACE = "http"
REFRESH_S = 2.0
"""A key that another process added or revoked counts after this time at the latest."""


class KeyStore(Protocol):
    """What the key ring needs of the store."""

    async def keys(self) -> list[ApiKey]: ...

    async def keys_required(self) -> bool: ...

    async def require_keys(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a key belongs to. `client` owns the jobs that come with it."""

    client: ClientId
    rights: frozenset[Right]


class KeyRing:
    """The keys of the settings and of the store. Without a store: those of the settings alone."""

    def __init__(self, settings: Settings, store: KeyStore | None = None) -> None:
        self._store = store
        self.owner = Identity(client=ClientId(settings.client_name), rights=ALL_RIGHTS)
        """Who has the key of the settings, and everybody while no key is required."""
        self._own: list[tuple[str, Identity]] = []
        if settings.http_key is not None:
            self._own.append((digest_of(settings.http_key.get_secret_value()), self.owner))
        self._stored: list[tuple[str, Identity]] = []
        self._required = bool(self._own)
        self._fresh_until = 0.0
        self._loading = asyncio.Lock()

    async def required(self) -> bool:
        """Whether a key is asked for: once there is one, or was. Raises StoreFault before the first read.

        Revoking the last key locks the door, and so does losing the store with the keys; it does not open it.
        """
        if self._is_stale():
            await self._refresh()
        return self._required

    async def locked(self) -> bool:
        """Whether a key is asked for and there is none that would be let in. Raises as `required`."""
        return await self.required() and not self._own and not self._stored

    async def identify(self, key: str) -> Identity | None:
        """None for a key that is unknown or revoked. Raises StoreFault before the first read."""
        if self._is_stale():
            await self._refresh()
        shown = digest_of(key)
        found: Identity | None = None
        for digest, identity in (*self._own, *self._stored):
            if hmac.compare_digest(digest, shown):  # no early exit: the time tells nothing
                found = identity
        return found

    async def counts(self, identity: Identity) -> bool:
        """Whether whoever was let in as this would be let in now. Raises StoreFault before the first read."""
        if not await self.required():
            return True
        return any(identity == known for _, known in (*self._own, *self._stored))

    def _is_stale(self) -> bool:
        return self._store is not None and monotonic() >= self._fresh_until

    async def _refresh(self) -> None:
        async with self._loading:
            if self._store is None or not self._is_stale():
                return
            asked_at = monotonic()
            try:
                keys = await self._store.keys()
                marked = await self._store.keys_required()
            except StoreFault as fault:
                if not self._fresh_until:
                    raise
                log.warning("keys_unreadable", code=fault.code.value)  # those known so far still count
            else:
                self._stored = _valid(keys)
                self._required = self._required or marked or bool(keys)
                if keys and not marked:
                    await self._remember(self._store)
            self._fresh_until = asked_at + REFRESH_S

    async def _remember(self, store: KeyStore) -> None:
        """The keys may be lost; that there were some must not be."""
        try:
            await store.require_keys()
        except StoreFault as fault:
            log.warning("door_marker_not_written", code=fault.code.value, error=str(fault))


def key_of(request: web.Request) -> str | None:
    """The key that the request shows: `X-API-Key: KEY`, or `Authorization: Bearer KEY`."""
    if key := request.headers.get("X-API-Key", "").strip():
        return key
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    return rest.strip() or None if scheme.lower() == "bearer" else None


@lru_cache(maxsize=256)
def caller_of(identity: Identity) -> Caller:
    return Caller(client=identity.client, surface=SURFACE, rights=identity.rights, may_read_files=False)


def link_caller(file_id: str) -> Caller:
    """Who opens a signed link, for that request only: the file may be any client's."""
    rights = frozenset({Right.READ, Right.ADMIN})
    client = ClientId(f"link {file_id[:8]}")
    return Caller(client=client, surface=SURFACE, rights=rights, may_read_files=False)


def unauthenticated() -> Denied:
    return Denied(
        "The API key is missing or wrong.",
        next_step="Send it as `X-API-Key: KEY` or `Authorization: Bearer KEY`.",
        code=ErrorCode.UNAUTHENTICATED,
    )


def link_ended() -> Denied:
    return Denied(
        "This link has expired, or a part of it is missing.",
        next_step="Ask for the file's workflow, output or asset again: the answer has a new link.",
        code=ErrorCode.UNAUTHENTICATED,
    )


def identity_of(caller: Caller) -> Identity:
    return Identity(client=caller.client, rights=caller.rights)


def _valid(keys: Iterable[ApiKey]) -> list[tuple[str, Identity]]:
    return [
        (key.digest, Identity(client=ClientId(key.name), rights=key.rights))
        for key in keys
        if key.revoked_at is None
    ]
