"""The product as the image gets it: a wheel of what the Dockerfile copies, in an environment of its own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, copied

LIMIT_S = 600


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment's folder; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("image")
    context, environment = folder / "context", folder / "environment"
    context.mkdir()
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, context)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", context)
    (wheel,) = (folder / "wheels").glob("comfy_mcp_bridge-*.whl")
    run(*pip, "--python", environment / "bin" / "python", "install", wheel)
    make_read_only(environment)
    yield environment
    for path in (environment, *environment.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)  # so that pytest can clear it away


def make_read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
