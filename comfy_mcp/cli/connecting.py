"""`comfy-bridge doctor --write CLIENT`: the bridge in the configuration of an MCP client.

The change is shown first and written on a yes. What the file has besides stays as it is, and a file that is
not understood is never written.
"""

import difflib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from comfy_mcp.cli import client_configs
from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput
from comfy_mcp.settings import Settings, sources
from comfy_mcp.settings.engines import DEFAULT_ENGINE_URL
from comfy_mcp.settings.paths import write_whole

NAME = "comfyui"
COMMAND = "comfy-bridge"
ADDRESS = "COMFYUI_URL"


async def connect(settings: Settings, output: Output, *, client: str) -> ExitCode:
    """Raises InvalidInput for a file that can't be read, Conflict for one that changed meanwhile."""
    path, members = _place(client)
    before = client_configs.read(path)
    entry = _entry(settings, client)
    after, had = _with_server(before, path, members, entry)
    if after == before:
        output.result({"path": str(path), "written": False}, [f"{path}: {NAME} is there already."])
        return ExitCode.OK
    for line in _difference(path, before, after).splitlines():
        output.note(line)
    if left_out := _left_out(entry, had):
        output.note(
            f"Not written, only set here: {', '.join(left_out)}. The client needs them in its environment."
        )
    if not _agreed(f"Write {path}?"):
        output.result({"path": str(path), "written": False}, ["Nothing was written."])
        return ExitCode.OK
    if client_configs.read(path) != before:
        raise Conflict(
            f"{path} has changed meanwhile.",
            next_step="Run the command again.",
            code=ErrorCode.INVALID_ARGUMENT,
        )
    try:
        write_whole(path.resolve(), after)  # a link stays one
    except OSError as error:
        raise client_configs.unusable(path, "written", error) from None
    output.result({"path": str(path), "written": True}, [f"Written: {path}. Restart the client."])
    return ExitCode.OK


def _agreed(question: str) -> bool:
    """The end of stdin and Ctrl-C are a no."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop's waits for an answer
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _place(client: str) -> tuple[Path, str]:
    """The file, and its member that has the servers. Of a project where the client has files of projects."""
    here = _here()
    match client:
        case "claude-code":
            return here / ".mcp.json", "mcpServers"
        case "cursor":
            return here / ".cursor" / "mcp.json", "mcpServers"
        case "vscode":
            return here / ".vscode" / "mcp.json", "servers"
        case _:
            return _desktop_folder() / "Claude" / "claude_desktop_config.json", "mcpServers"


def _here() -> Path:
    """Raises InvalidInput where the folder has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise InvalidInput(
            "The working folder does not exist any more.", next_step="Change to another folder."
        ) from None


def _desktop_folder() -> Path:
    """Where the programs of this system keep their settings."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ["APPDATA"])
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _entry(settings: Settings, client: str) -> dict[str, Any]:
    """How the client starts the bridge. A URL with a password or a token in it stays out."""
    kind = {"type": "stdio"} if client == "vscode" else {}
    entry: dict[str, Any] = {**kind, "command": _command(client), "args": ["mcp"]}
    urls = ",".join(settings.engine_urls)
    if settings.engines_file is None and "@" not in urls and "?" not in urls:
        entry["env"] = {ADDRESS: urls}
    return entry


def _left_out(entry: Mapping[str, Any], had: Mapping[str, Any]) -> list[str]:
    """The variables of this shell that neither the entry has nor, in `had`, the one before."""
    given = sources()
    address = given.pop("engine_urls", None)
    names = {name for name in given.values() if name in os.environ} - had.keys()
    if "env" not in entry and "engines_file" not in given:
        names.add(address or ADDRESS)
    return sorted(names)


def _command(client: str) -> str:
    """A desktop program does not have the shell's PATH; a project's file is for other machines too."""
    found = shutil.which(COMMAND)
    if found is not None and client != "claude-desktop":
        return COMMAND
    return found or str(Path(sys.argv[0]).resolve())


def _with_server(
    before: str | None, path: Path, members: str, entry: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """The file's text with the server in it, and the variables that its entry had. Raises InvalidInput."""
    config = client_configs.parse(path, before) if before and before.strip() else {}
    servers = config.setdefault(members, {}) if isinstance(config, dict) else None
    if not isinstance(servers, dict):
        raise client_configs.not_understood(path, f"{members} is no object")
    old = _of_the_bridge(servers.get(NAME))
    kept = _with_what_was_added(entry, old)
    if before is not None and servers.get(NAME) == kept:
        return before, old["env"]
    servers[NAME] = kept
    return client_configs.written(path, config, before), old["env"]


def _of_the_bridge(old: object) -> dict[str, Any]:
    """The entry that was there, with the parts that are used; without any where it starts something else."""
    if not isinstance(old, dict) or Path(str(old.get("command"))).stem != COMMAND:
        return {"env": {}}
    env, args = old.get("env"), old.get("args")
    return old | {"env": env if isinstance(env, dict) else {}, "args": args if isinstance(args, list) else []}


def _with_what_was_added(entry: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with what a person has added to the one before: variables, arguments, options of the client.
    The address stays as it is there where nobody names another."""
    new = entry.get("env", {})
    env = new | old["env"] if new.get(ADDRESS) == DEFAULT_ENGINE_URL else old["env"] | new
    args = old["args"] if "mcp" in old.get("args", []) else entry["args"]
    kept = {**old, **entry, "args": args, "env": env}
    return kept if env else {name: value for name, value in kept.items() if name != "env"}


def _difference(path: Path, before: str | None, after: str) -> str:
    lines = difflib.unified_diff(
        (before or "").splitlines(),
        after.splitlines(),
        fromfile=str(path) if before is not None else "(no file)",
        tofile=str(path),
        lineterm="",
    )
    return "\n".join(lines)
