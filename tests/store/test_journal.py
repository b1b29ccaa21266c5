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
    readers = {path for path in store.rglob("*.py") if "stored_event_of" in names_used(path)}
    assert readers == {Path(event_log.__file__)}


def writers_of(table: str) -> dict[str, set[str]]:
    """Statements on a table of the schema, by the module of the store that makes them."""
    found: dict[str, set[str]] = {}
    for path in Path(journal.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {
            alias.asname or alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module == "comfy_mcp.store.core"
            for alias in node.names
            if alias.name == table
        }
        for node in nodes:
            match node:
                case ast.Call(
                    func=ast.Name("insert" | "update" | "delete" as verb), args=[ast.Name(name), *_]
                ) if name in names:
                    found.setdefault(path.stem, set()).add(verb)
                case _:
                    pass
    return found


def test_only_the_journal_writes_what_an_event_changes() -> None:
    assert writers_of("jobs") == {
        "journal": {"insert", "update"},
        "turns": {"update"},
        "retention": {"delete"},
    }
    assert writers_of("events") == {"journal": {"insert", "delete"}}
