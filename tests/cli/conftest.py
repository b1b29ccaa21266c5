"""The command line in this process, against an embedded engine in another one."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from comfy_mcp.cli.app import cli
from tests.support.warm_python import WARM_PYTHON

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "http://127.0.0.1:9"
"""An address where nothing listens: the port of the discard service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """Runs `comfy-bridge` with the settings of this test."""

    def __call__(self, *arguments: object, stdin: bytes | None = None) -> Ran:
        done = CliRunner().invoke(cli, [str(each) for each in arguments], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(code=done.exit_code, out=done.stdout, err=done.stderr)

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """As a process of its own, for what signals do."""
        return subprocess.Popen(
            [WARM_PYTHON, "-m", "comfy_mcp", *(str(each) for each in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProcess:
    url: str
    base: Path


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """One embedded engine for all tests of the command line."""
    base = tmp_path_factory.mktemp("engine")
    checkpoints = base / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "small.safetensors").write_bytes(b"12345")
    command = [WARM_PYTHON, "-m", "comfy_mcp.embedded", "--port", "0", "--base-directory", str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield EngineProcess(url=url, base=base)
        process.terminate()


@pytest.fixture
def shell(
    engine: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> Shell:
    """Settings from this test only: its own store, the session's engine."""
    for name in list(os.environ):
        if name.upper().startswith(("COMFY", "MANAGEMENT_", "SALAD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COMFYUI_URL", engine.url)
    monkeypatch.setenv("COMFY_BRIDGE_STATE_DIR", str(tmp_path / "state"))
    return Shell()


def graph(color: int = 0x336699, *, prefix: str = "cli") -> dict[str, Any]:
    """A picture of one colour."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": color},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def slow_graph(*, step_ms: int = 100, steps: int = 600) -> dict[str, Any]:
    """A picture that takes a minute: long enough to be cancelled first."""
    slow = {"width": 16, "height": 16, "color": 1, "steps": steps, "step_ms": step_ms}
    return {
        "1": {"class_type": "BridgeSlowImage", "inputs": slow},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "slow"}},
    }


def written(folder: Path, value: object, name: str = "workflow.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


@contextlib.contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Whatever a test does, its process is gone afterwards and its pipes are closed."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
