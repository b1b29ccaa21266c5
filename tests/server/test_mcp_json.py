"""The snippet that users paste starts the command that the package installs."""

import json
import tomllib
from pathlib import Path

import pytest

from comfy_mcp.settings import DEFAULT_ENGINE_URL, load_settings

ROOT = Path(__file__).parents[2]


def test_mcp_json_names_the_installed_command_and_a_setting_that_is_read() -> None:
    server = json.loads((ROOT / "mcp.json").read_text())["mcpServers"]["comfyui"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert server["command"] in scripts
    assert server["args"] == ["mcp"]
    assert server["env"] == {"COMFYUI_URL": DEFAULT_ENGINE_URL}


def test_the_snippet_s_setting_reaches_the_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFY_BRIDGE_ENGINE_URLS", raising=False)
    monkeypatch.setenv("COMFYUI_URL", "http://comfyui:8188")
    assert load_settings().engines[0].url == "http://comfyui:8188"
