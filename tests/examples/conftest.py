"""The examples as a user runs them, against an embedded engine."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.warm_python import WARM_PYTHON

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LIMIT_S = 120
REAL_COMFYUI = {"COMFYUI_SRC", "COMFY_BRIDGE_CACHE", "COMFY_BRIDGE_START_TIMEOUT"}
"""Where the real ComfyUI is installed stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs a command with a clean environment; what an example writes is below `folder`."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *command: str | Path, **more: str) -> Ran:
        done = subprocess.run(
            [str(each) for each in command],
            cwd=self.folder,
            env=dict(self.environment) | more,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def python(self, script: Path, *arguments: str | Path, **more: str) -> Ran:
        return self(WARM_PYTHON, script, *arguments, **more)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """The state of every command is in this test's folder, and `comfy-bridge` is the one under test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("COMFY", "MANAGEMENT_", "SALAD_")) or name in REAL_COMFYUI
    }
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "comfy-bridge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m comfy_mcp "$@"\n')
    command.chmod(0o755)
    own = {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COMFY_BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }
    return Runner(folder=tmp_path, environment=kept | own)


@pytest.fixture
def engine_url(tmp_path: Path) -> Iterator[str]:
    base = tmp_path / "engine"
    command = [WARM_PYTHON, "-m", "comfy_mcp.embedded", "--port", "0", "--base-directory", str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
