"""The official conformance suite, pinned by package-lock.json (tests/support/npm_packages.py)."""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.npm_packages import NODE, node_modules

HERE = Path(__file__).parent

FOLDER = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT.+")
"""A scenario's results: its name and the time."""

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
    package = await asyncio.to_thread(_package)
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


def _package() -> Path:
    return node_modules(HERE, "conformance") / "@modelcontextprotocol" / "conformance"
