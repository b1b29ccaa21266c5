"""What `make dist` makes, and the wheel installed where nothing of the tree is."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from connect.dist import build

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An environment that has the wheel. Its dependencies are those of this one: no index is asked."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin")

    def environment(self, **more: str) -> dict[str, str]:
        """Of a user: nothing of this tree, and no settings."""
        kept = {name: os.environ[name] for name in ("LANG", "SYSTEMROOT") if name in os.environ}
        return kept | {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", **more}

    def run(
        self, *command: object, cwd: Path, more: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.bin / str(command[0])), *map(str, command[1:])],
            cwd=cwd,
            env=self.environment(HOME=str(cwd), **(more or {})),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make dist` fills."""
    out = tmp_path_factory.mktemp("dist")
    build(out)
    return out


@pytest.fixture(scope="session")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    where = Installed(folder=folder)
    (wheel,) = dist.glob("*.whl")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*uv, "--python", str(where.bin / "python"), str(wheel)], check=True)
    (packages,) = folder.glob("[Ll]ib/**/site-packages")
    # A path in a .pth file is read after the environment's own packages, and the .pth files in it are not.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return where
