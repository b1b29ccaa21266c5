"""The tests mirror the tree: whoever edits a module finds its tests by name."""

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGES = {
    package.name: package
    for package in (*(TESTS.parent / "comfy_mcp").iterdir(), TESTS.parent / "http_sidecar")
    if (package / "__init__.py").is_file() and (TESTS / package.name).is_dir()
}

OF_SEVERAL = {
    "cli": {"list_commands"},
    "domain": {"budgets", "budgets_any_file", "budgets_findings", "ui_unknown_kinds", "ui_values", "values"},
    "driving": {"cloud_place", "deadlines", "gpu_use", "thrift", "whole_story"},
    "embedded": {"parts"},
    "gpu": {"held_live"},
    "http_sidecar": {"bad_input"},
    "http_sidecar/comfy_api": {"bad_input"},
    "http_sidecar/mcp": {"clients"},
    "http_sidecar/openapi": {"schemathesis"},
    "http_sidecar/rest": {"retry"},
    "http_sidecar/streams": {"fuzz"},
    "library": {"bombs", "model_watch", "with_an_engine"},
    "metrics": {"alerts", "dashboard", "documented", "prometheus"},
    "operations": {"leaving", "retries", "rights", "silence"},
    "places/comfyui": {"bad_answers", "told_is_history"},
    "screen": {"screen"},
    "server": {"bad_input", "gpu_notifications", "imports", "mcp_json", "tool_metrics"},
    "store": {"cursors", "measured", "needs_and_references", "processes", "state_machine"},
}
"""By folder, what test files are about that belong to no module alone. Their first lines say more."""


def test_a_test_file_is_named_after_the_module_beside_it() -> None:
    found: dict[str, set[str]] = {}
    for name, package in PACKAGES.items():
        for file in (TESTS / name).rglob("test_*.py"):
            folder, about = file.parent.relative_to(TESTS / name), file.stem.removeprefix("test_")
            if not has_module(package / folder, about):
                found.setdefault((Path(name) / folder).as_posix(), set()).add(about)
    assert found == OF_SEVERAL


def has_module(package: Path, about: str) -> bool:
    """`test_websocket_limits.py` belongs to `websocket.py`; a package counts as a module."""
    words = about.split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    return any((package / f"{name}.py").is_file() or (package / name).is_dir() for name in names)


def test_most_packages_have_tests_beside_them() -> None:
    assert len(PACKAGES) >= 12
