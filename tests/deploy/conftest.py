"""The product as the image gets it: a wheel of what the Dockerfile copies, in an environment of its own."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
    run(*pip, "--python", environment / "bin" / "python", "install", "--no-deps", wheel)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    (product,) = Distribution.discover(name="comfy-mcp-bridge", path=[str(site)])
    link_requirements(product.requires or (), site)
    make_read_only(environment)
    yield environment
    for path in (environment, *environment.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)  # so that pytest can clear it away


def link_requirements(of_product: Sequence[str], site: Path) -> None:
    """What the wheel requires, and what that requires, from here. To install it all takes a minute."""
    todo, seen = [(line, frozenset[str]()) for line in of_product], set[str]()
    while todo:
        line, extras = todo.pop()
        needed = Requirement(line)
        if not any(
            needed.marker is None or needed.marker.evaluate({"extra": each}) for each in ("", *extras)
        ):
            continue
        found = distribution(needed.name)
        if line not in seen:
            seen.add(line)
            todo += [(each, frozenset(needed.extras)) for each in found.requires or ()]
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(str(found.locate_file(name))))


def make_read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
