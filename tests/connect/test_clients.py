"""docs/clients.md: each text is read as its client reads it, and the command in it is an MCP server."""

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfy_mcp.settings import DEFAULT_ENGINE_URL
from tests.connect.conftest import ROOT, Installed

DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
READERS: dict[str, Callable[[str], Any]] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
HANDSHAKE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


@dataclass(frozen=True, slots=True)
class Start:
    """How a client starts the server."""

    heading: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


def starts() -> Iterator[Start]:
    for heading, body in re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL):
        for language, text in re.findall(r"```(\w+)\n(.*?)```", body, re.DOTALL):
            if language in READERS:
                yield from _in_config(heading, READERS[language](text))
            elif language == "sh":
                yield from _in_shell(heading, text)


def _in_config(heading: str, config: Any) -> Iterator[Start]:
    (servers,) = config.values()
    (server,) = servers.values()
    command = server.get("command", server.get("cmd"))
    words = command if isinstance(command, list) else [command, *server["args"]]
    environment = next(server[name] for name in ("env", "envs", "environment") if name in server)
    yield Start(heading, tuple(words), tuple(environment.items()))


def _in_shell(heading: str, text: str) -> Iterator[Start]:
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if "--" in words:
            given = words[words.index("--env") + 1].partition("=")
            yield Start(heading, tuple(words[words.index("--") + 1 :]), ((given[0], given[2]),))


ALL = list(starts())


def test_every_client_of_the_document_has_a_text_that_starts_something() -> None:
    headings = re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)
    others = {"One step", "Without installing", "Over HTTP"}
    assert [heading for heading in headings if heading not in others] == [start.heading for start in ALL]
    assert len(ALL) >= 8


@pytest.mark.parametrize("start", ALL, ids=[start.heading for start in ALL])
def test_a_text_gives_the_address_of_comfyui(start: Start) -> None:
    assert dict(start.environment) == {"COMFYUI_URL": DEFAULT_ENGINE_URL}


def test_mcp_json_is_the_text_of_the_document() -> None:
    assert json.loads((ROOT / "mcp.json").read_text(encoding="utf-8")) in [
        json.loads(text) for text in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    ]


@pytest.mark.parametrize("command", sorted({start.command for start in ALL}), ids=" ".join)
def test_the_command_of_a_text_is_an_mcp_server(
    installed: Installed, tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = subprocess.run(
        [str(installed.bin / command[0]), *command[1:]],
        input=json.dumps(HANDSHAKE) + "\n",
        cwd=tmp_path,
        env=installed.environment(HOME=str(tmp_path), COMFY_BRIDGE_STATE_DIR=str(tmp_path / "state")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert json.loads(said.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "comfy-mcp-bridge", (
        said.stderr
    )
