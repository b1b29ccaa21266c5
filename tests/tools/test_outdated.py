"""`make outdated`, and what the lock files promise."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.outdated import lines, locked

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names_of(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", each)[0]).lower() for each in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_dependency_by_hash_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry)
        assert "--hash=sha256:" in entry


def test_the_locks_have_what_the_project_needs_in_one_version() -> None:
    runtime, dev = (locked((ROOT / name).read_text(encoding="utf-8")) for name in LOCKS)
    assert names_of(project()["project"]["dependencies"]) <= set(runtime)
    assert names_of(project()["dependency-groups"]["dev"]) <= set(dev)
    assert {name: dev[name] for name in runtime} == runtime


def test_every_dependency_has_an_upper_bound() -> None:
    given = project()
    everything = [
        *given["build-system"]["requires"],
        *given["project"]["dependencies"],
        *given["dependency-groups"]["dev"],
    ]
    assert [each for each in everything if not re.search(r"<|==", each)] == []


def test_what_differs_from_the_newest_is_named() -> None:
    pinned = locked("aiohttp==3.1 \\\n    --hash=sha256:0\nPy_YAML==6.0 ; sys_platform == 'linux' \\\n")
    assert pinned == {"aiohttp": "3.1", "py-yaml": "6.0"}
    assert lines(pinned, {"aiohttp": "4.0", "py-yaml": "6.0", "other": "1"}) == ["aiohttp 3.1 → 4.0"]
