"""One writer of jobs: nobody else decides, writes or appends."""

import ast
from pathlib import Path

import comfy_mcp
from comfy_mcp.store import event_log, journal

PACKAGE = Path(comfy_mcp.__file__).parent
SIDECAR = PACKAGE.parent / "http_sidecar"


def names_used(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else [node.attr]
            if isinstance(node, ast.Attribute)
            else []
        )
    }


def test_only_the_journal_lets_a_job_evolve() -> None:
    files = [*PACKAGE.rglob("*.py"), *SIDECAR.rglob("*.py")]
    users = {path for path in files if "evolve" in names_used(path)}
    assert users == {Path(journal.__file__)}


def test_only_the_log_and_the_journal_know_how_an_event_is_stored() -> None:
    store = Path(journal.__file__).parent
    users = {path for path in store.rglob("*.py") if "event_values" in names_used(path)}
    assert users == {Path(journal.__file__)}
    assert "stored_event_of" in names_used(Path(event_log.__file__))
