"""The wheel by itself, as pipx and uvx install it: the command, a job, and the completion of shells."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from comfy_mcp import __version__
from tests.cli.conftest import ended
from tests.connect.conftest import ROOT, Installed
from tests.support.graphs import picture


def test_the_wheel_has_all_files_of_the_packages_and_no_others(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        packed = {name for name in opened.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for package in ("comfy_mcp", "http_sidecar")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == there


@pytest.mark.parametrize("command", ["comfy-bridge", "comfy-mcp-bridge"])
def test_the_command_runs_from_the_wheel_and_not_from_the_tree(
    installed: Installed, tmp_path: Path, command: str
) -> None:
    assert (
        installed.run(command, "--version", cwd=tmp_path).stdout == f"comfy-bridge, version {__version__}\n"
    )
    where = installed.run("python", "-c", "import comfy_mcp; print(comfy_mcp.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.folder)


def test_a_job_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "workflow.json").write_text(json.dumps(picture("wheel")))
    engine = subprocess.Popen(
        [
            str(installed.bin / "comfy-bridge"),
            "engine",
            "--port",
            "0",
            "--base-directory",
            str(tmp_path / "engine"),
        ],
        cwd=tmp_path,
        env=installed.environment(HOME=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    )
    with ended(engine):
        assert engine.stdout is not None
        more = {
            "COMFYUI_URL": engine.stdout.readline().strip(),
            "COMFY_BRIDGE_STATE_DIR": str(tmp_path / "state"),
        }
        done = installed.run("comfy-bridge", "run", "workflow.json", "-o", "out", cwd=tmp_path, more=more)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "wheel_00001_.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(installed: Installed, tmp_path: Path, shell: str) -> None:
    def completed(words: str, at: int) -> str:
        more = {"_COMFY_BRIDGE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        if shell == "fish":
            more["COMP_CWORD"] = words.split()[-1]
        return installed.run("comfy-bridge", cwd=tmp_path, more=more).stdout

    source = installed.run("comfy-bridge", cwd=tmp_path, more={"_COMFY_BRIDGE_COMPLETE": f"{shell}_source"})
    assert "_COMFY_BRIDGE_COMPLETE" in source.stdout
    assert "doctor" in completed("comfy-bridge doc", 1)
    assert "--write" in completed("comfy-bridge doctor --wr", 2)
    assert "cursor" in completed("comfy-bridge doctor --write cur", 3)


def test_the_settings_of_this_machine_reach_no_test_of_the_wheel(installed: Installed) -> None:
    assert not {name for name in installed.environment() if name.startswith("COMFY")}
    assert "PYTHONPATH" not in installed.environment()
    assert os.pathsep in installed.environment()["PATH"]
