"""API keys: make, list, change and revoke them. Only their hashes are kept."""

import secrets

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, ApiKey, digest_of
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import (
    AddKeyParams,
    ChangedKeyResult,
    ChangeKeyParams,
    KeyItem,
    KeysResult,
    NewKeyResult,
    NoParams,
    RevokedKeyResult,
    RevokeKeyParams,
)

KEY_PREFIX = "cb_"
"""Makes a key that leaked into a repository findable."""

NAME_LIMIT = 128

LIMITS_OF_KEYS = ("max_queued", "max_queued_bytes", "max_running", "max_gpu_seconds")


async def add_key(context: OperationContext, params: AddKeyParams) -> NewKeyResult:
    """Make a key. The answer is the only place where it is ever shown.

    Raises InvalidInput for its name, Conflict (`invalid_argument`) when the name is in use.
    """
    name = params.name
    if not 0 < len(name) <= NAME_LIMIT or not name.isprintable() or name != name.strip():
        raise InvalidInput(
            f"A key's name is 1 to {NAME_LIMIT} printable characters.",
            next_step="Name it after its user: its workflows are listed under this name.",
        )
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        name=name,
        digest=digest_of(secret),
        rights=frozenset(params.rights) or DEFAULT_KEY_RIGHTS,
        created_at=context.services.now_ms(),
        max_queued=params.max_queued,
        max_queued_bytes=params.max_queued_bytes,
        max_running=params.max_running,
        max_gpu_seconds=params.max_gpu_seconds,
    )
    await context.services.store.add_key(key)
    return NewKeyResult(**_item(key).model_dump(by_alias=False), key=secret)


async def list_keys(context: OperationContext, params: NoParams) -> KeysResult:
    """All keys by name, revoked ones too."""
    return KeysResult(keys=[_item(key) for key in await context.services.store.keys()])


async def change_key(context: OperationContext, params: ChangeKeyParams) -> ChangedKeyResult:
    """Jobs that wait at a limit which is no more go on within seconds.

    Raises InvalidInput where nothing is to be changed, NotFound when no valid key has this name.
    """
    given = params.model_dump(include=set(LIMITS_OF_KEYS), exclude_none=True)
    if not given and not params.rights:
        raise InvalidInput(
            "There is nothing to change.", next_step="Name its rights, or limits; 0 = no limit."
        )
    limits = {name: value or None for name, value in given.items()}
    key = await context.services.store.change_key(params.name, rights=params.rights, limits=limits)
    if key is None:
        raise _no_key(params.name)
    return ChangedKeyResult(**_item(key).model_dump(by_alias=False))


async def revoke_key(context: OperationContext, params: RevokeKeyParams) -> RevokedKeyResult:
    """Raises NotFound when no valid key has this name."""
    services = context.services
    if not await services.store.revoke_key(params.name, at=services.now_ms()):
        raise _no_key(params.name)
    return RevokedKeyResult(name=params.name, revoked=True)


def _no_key(name: str) -> NotFound:
    return NotFound(
        f"There is no valid key named {name!r}.",
        next_step="`comfy-bridge keys list` lists the keys.",
        code=ErrorCode.NOT_FOUND,
    )


def _item(key: ApiKey) -> KeyItem:
    return KeyItem(
        name=key.name,
        rights=sorted(key.rights),
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        max_queued=key.max_queued,
        max_queued_bytes=key.max_queued_bytes,
        max_running=key.max_running,
        max_gpu_seconds=key.max_gpu_seconds,
    )
