"""The plugin for Claude Code: its version, its server, and a skill that names what exists."""

import json
import re
from pathlib import Path

import yaml

from comfy_mcp import __version__
from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.settings import DEFAULT_ENGINE_URL
from tests.connect.conftest import ROOT

PLUGIN = ROOT / "connect" / "claude-code"
SKILL = (PLUGIN / "skills" / "comfyui" / "SKILL.md").read_text(encoding="utf-8")


def read(path: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return document


def test_the_plugin_is_listed_and_has_the_packages_version() -> None:
    plugin = read(PLUGIN / ".claude-plugin" / "plugin.json")
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text(encoding="utf-8"))
    assert plugin["version"] == __version__
    (listed,) = market["plugins"]
    assert (listed["name"], (ROOT / listed["source"]).resolve()) == (plugin["name"], PLUGIN)
    clients = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert f"claude plugin install {plugin['name']}@{market['name']}" in clients


def test_its_server_is_that_of_mcp_json_with_the_users_address() -> None:
    ours = json.loads((ROOT / "mcp.json").read_text(encoding="utf-8"))
    ours["mcpServers"]["comfyui"]["env"]["COMFYUI_URL"] = f"${{COMFYUI_URL:-{DEFAULT_ENGINE_URL}}}"
    assert read(PLUGIN / ".mcp.json") == ours


def test_the_skill_says_when_it_is_used_and_names_what_exists() -> None:
    head = yaml.safe_load(SKILL.split("---")[1])
    assert head["name"] == (PLUGIN / "skills" / "comfyui").name
    assert 0 < len(head["description"]) <= 1024
    tools = {item.name for item in OPERATIONS if item.tool}
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", SKILL))
    arguments = {name for tool in tools for name in BY_NAME[tool].params.model_fields}
    assert words & tools >= {"find_workflow", "submit_workflow", "wait_for_workflow", "view_output"}
    assert words - tools - arguments == set()
    assert len(SKILL) < 4_000  # it is read into the context of every session that uses it
