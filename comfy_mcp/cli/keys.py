"""What `comfy-bridge keys` does: API keys for the HTTP sidecar, kept hashed in the store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output
from comfy_mcp.cli.session import open_session
from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, ApiKey, Right
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.settings import Settings

NAME_LIMIT = 128


async def add(settings: Settings, output: Output, *, name: str, rights: Sequence[str]) -> ExitCode:
    """Make a key and print it: it is shown now and never again."""
    from http_sidecar.api_keys import digest_of, new_key

    if not 0 < len(name) <= NAME_LIMIT or not name.isprintable() or name != name.strip():
        raise InvalidInput(
            f"A key's name is 1 to {NAME_LIMIT} printable characters.",
            next_step="Name it after its user: its workflows are listed under this name.",
        )
    secret = new_key()
    async with open_session(settings, drive=False) as session:
        key = ApiKey(
            name=name,
            digest=digest_of(secret),
            rights=frozenset(Right(word) for word in rights) or DEFAULT_KEY_RIGHTS,
            created_at=session.services.now_ms(),
        )
        await session.services.store.add_key(key)
    output.result(_document(key) | {"key": secret}, [secret])
    output.note(f"the key of {name!r}, shown only once; a running server accepts it within seconds")
    return ExitCode.OK


async def list_(settings: Settings, output: Output) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        keys = await session.services.store.keys()
    output.result({"keys": [_document(key) for key in keys]}, [_line(key) for key in keys])
    return ExitCode.OK


async def revoke(settings: Settings, output: Output, *, name: str) -> ExitCode:
    """Raises NotFound when no key that counts has this name."""
    async with open_session(settings, drive=False) as session:
        services = session.services
        if not await services.store.revoke_key(name, at=services.now_ms()):
            raise NotFound(
                f"There is no valid key named {name!r}.",
                next_step="`comfy-bridge keys list` lists the keys.",
                code=ErrorCode.NOT_FOUND,
            )
    output.result({"name": name, "revoked": True}, [f"{name} revoked"])
    return ExitCode.OK


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "rights": sorted(key.rights),
        "createdAt": key.created_at,
        "revokedAt": key.revoked_at,
    }


def _line(key: ApiKey) -> str:
    state = (
        f"revoked {_day(key.revoked_at)}" if key.revoked_at is not None else f"since {_day(key.created_at)}"
    )
    return f"{key.name}  {','.join(sorted(key.rights))}  {state}"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
