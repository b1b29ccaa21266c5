"""`comfy-bridge keys`: the API keys of the HTTP sidecar; the store keeps their hashes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output
from comfy_mcp.cli.session import open_session
from comfy_mcp.operations.shapes import ChangedKeyResult, KeyItem, KeysResult, NewKeyResult, RevokedKeyResult
from comfy_mcp.settings import Settings


async def add(
    settings: Settings,
    output: Output,
    *,
    name: str,
    rights: Sequence[str],
    **quota: float | None,
) -> ExitCode:
    """Make a key and print it: it is shown now and never again."""
    async with open_session(settings, drive=False) as session:
        made: NewKeyResult = await session.call("add_key", {"name": name, "rights": rights, **quota})
    output.answer(made, [made.key])
    output.note(f"the key of {name!r}, shown only once; a running server accepts it within seconds")
    return ExitCode.OK


async def list_(settings: Settings, output: Output) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        found: KeysResult = await session.call("list_keys", {})
    nothing = "There is no key. `comfy-bridge keys add NAME` makes one."
    output.answer(found, [_line(key) for key in found.keys], nothing=nothing)
    return ExitCode.OK


async def change(settings: Settings, output: Output, **changes: Any) -> ExitCode:
    """Raises InvalidInput where nothing is to be changed, NotFound when no valid key has this name."""
    async with open_session(settings, drive=False) as session:
        changed: ChangedKeyResult = await session.call(
            "change_key", {name: value for name, value in changes.items() if value is not None}
        )
    output.answer(changed, [_line(changed)])
    return ExitCode.OK


async def revoke(settings: Settings, output: Output, *, name: str) -> ExitCode:
    """Raises NotFound when no valid key has this name."""
    async with open_session(settings, drive=False) as session:
        revoked: RevokedKeyResult = await session.call("revoke_key", {"name": name})
    output.answer(revoked, [revoked.text()])
    return ExitCode.OK


def _line(key: KeyItem) -> str:
    state = (
        f"revoked {_day(key.revoked_at)}" if key.revoked_at is not None else f"since {_day(key.created_at)}"
    )
    quota = [] if key.max_queued is None else [f"{key.max_queued} queued"]
    quota += [] if key.max_queued_bytes is None else [f"{key.max_queued_bytes} bytes queued"]
    quota += [] if key.max_running is None else [f"{key.max_running} running"]
    quota += [] if key.max_gpu_seconds is None else [f"{key.max_gpu_seconds:g} GPU-seconds a day"]
    return "  ".join(
        [key.name, ",".join(key.rights), state, *(["at most " + ", ".join(quota)] if quota else [])]
    )


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
