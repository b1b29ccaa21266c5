"""What a shell completes beside commands and options: names of workflows, their inputs, ids, engines.

Nothing is written to the terminal: what can't be found out is not completed.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from comfy_mcp.cli.session import Options, Session, open_session
from comfy_mcp.logs import configure
from comfy_mcp.settings import Settings

LIMIT_S = 3.0
"""Who pressed the key waits no longer."""

Items = Sequence[CompletionItem]


def workflows(context: click.Context, begun: str) -> Items:
    """Names of workflows, and files."""

    async def ask(session: Session) -> Items:
        found = await session.call("find_workflow", {"limit": 200})
        return [
            _item(each.name, each.about or each.label)
            for each in found.workflows
            if each.runnable is not False
        ]

    return [*_beginning(begun, _asked(context, ask)), CompletionItem(begun, type="file")]


def inputs(context: click.Context, begun: str) -> Items:
    """NAME= of the inputs of the workflow that the line names."""
    name = context.params.get("file") or next(iter(context.args), None)  # click stops at the option
    if name is None or "=" in begun:
        return ()

    async def ask(session: Session) -> Items:
        found = await session.call("describe_workflow", {"name": name})
        return [_item(f"{each.name}=", each.type) for each in found.parameters]

    return _beginning(begun, _asked(context, ask))


def ids(context: click.Context, begun: str) -> Items:
    """Of workflows, the newest first."""

    async def ask(session: Session) -> Items:
        found = await session.call("list_workflows", {"limit": 50})
        return [_item(each.workflow_id, f"{each.status} {each.name or ''}") for each in found.workflows]

    return _beginning(begun, _asked(context, ask))


def engines(context: click.Context, begun: str) -> Items:
    async def known(settings: Settings) -> Items:
        return [_item(each.id, each.url) for each in settings.engines]

    return _beginning(begun, _found(context, known))


def _asked(context: click.Context, ask: Callable[[Session], Awaitable[Items]]) -> Items:
    async def opened(settings: Settings) -> Items:
        async with open_session(settings, drive=False) as session:
            return await ask(session)

    return _found(context, opened)


def _found(context: click.Context, find: Callable[[Settings], Awaitable[Items]]) -> Items:
    async def within(settings: Settings) -> Items:
        async with asyncio.timeout(LIMIT_S):
            return await find(settings)

    root = context.find_root().params
    given: dict[str, Any] = {name: root.get(name) for name in ("engine", "state_dir")}
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            settings = Options(**given).settings()
            configure(settings, level="error")
            return asyncio.run(within(settings))
        except Exception:  # noqa: BLE001 - the line that is being typed is no place for an error
            return ()


def _item(value: str, about: str | None) -> CompletionItem:
    """Bash takes a value as it is, so a space in it is escaped; the other shells do that themselves."""
    escapes = os.environ.get("_COMFY_BRIDGE_COMPLETE", "").startswith("bash")
    return CompletionItem(value.replace(" ", "\\ ") if escapes else value, help=about)


def _beginning(begun: str, items: Items) -> Items:
    plain = begun.casefold()
    return [each for each in items if str(each.value).replace("\\ ", " ").casefold().startswith(plain)]
