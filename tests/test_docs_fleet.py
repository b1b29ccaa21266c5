"""docs/fleet.md: its commands run as they stand, and its files of engines are valid."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from comfy_mcp.cli.app import cli
from comfy_mcp.settings import load_settings

DOCUMENT = (Path(__file__).parents[1] / "docs" / "fleet.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("export COMFY_BRIDGE_ENGINES_FILE", "comfy-bridge engines "))
]


def test_the_commands_take_a_reader_from_one_machine_to_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COMFY_BRIDGE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COMFY_BRIDGE_CONNECT_TIMEOUT_S", "0.2")
    runner, shown = CliRunner(), []
    for line in COMMANDS:
        words = shlex.split(line)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
            continue
        done = runner.invoke(cli, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, (line, done.output)
        shown.append(done.stdout)
    assert [engine.id for engine in load_settings().engines] == ["here", "gpu-1", "gpu-2"]
    (listed,) = [text for text in shown if text.count("http://") == 3]
    assert "h100" in listed


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL))
def test_the_files_are_valid(tmp_path: Path, text: str) -> None:
    file = tmp_path / "engines.toml"
    file.write_text(text, encoding="utf-8")
    assert load_settings(engines_file=file).engines
