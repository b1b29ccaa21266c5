"""Every bad input gets a stable code and a next step, and leaves the store as it was."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.mcp_surface import MODES, open_surface, slow_graph, text_of

SUBMIT, WAIT = "submit_workflow", "wait_for_workflow"
Arguments = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Bad:
    name: str
    tool: str
    arguments: Arguments
    code: str
    says: str = ""


def graph(value: object) -> Arguments:
    return lambda _: {"workflow": value}


def given(**arguments: object) -> Arguments:
    return lambda _: arguments


def file(text: str, name: str = "graph.json") -> Arguments:
    def arguments(folder: Path) -> dict[str, Any]:
        (folder / name).write_text(text, encoding="utf-8")
        return {"path": str(folder / name)}

    return arguments


def link_out(folder: Path) -> dict[str, Any]:
    outside = folder.parent / f"{folder.name}-outside.json"
    outside.write_text(json.dumps(slow_graph()), encoding="utf-8")
    (folder / "link.json").symlink_to(outside)
    return {"path": str(folder / "link.json")}


def outside_path(folder: Path) -> dict[str, Any]:
    return {"path": os.fspath(folder.parent / "elsewhere.json")}


CYCLE = {
    "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "t"}},
}
UNKNOWN = {"1": {"class_type": "SaveImagee", "inputs": {}}}
UI = {"nodes": [], "links": [], "version": 0.4}

CASES = [
    Bad("text that is not JSON", SUBMIT, graph("{"), "graph_invalid"),
    Bad("file that is not JSON", SUBMIT, file("nope"), "graph_invalid"),
    Bad("list", SUBMIT, graph("[]"), "graph_invalid"),
    Bad("too large", SUBMIT, graph({"1": "x" * 5_000}), "too_large"),
    Bad("too large a file", SUBMIT, file(f'{{"1": "{"x" * 5_000}"}}', "large.json"), "too_large"),
    Bad("UI format", SUBMIT, graph(UI), "graph_ui_format"),
    Bad("cycle", SUBMIT, graph(CYCLE), "graph_invalid"),
    Bad("unknown node", SUBMIT, graph(UNKNOWN), "graph_invalid", says="SaveImage"),
    Bad("nothing", SUBMIT, given(), "invalid_argument"),
    Bad("path outside", SUBMIT, outside_path, "path_not_allowed"),
    Bad("link out", SUBMIT, link_out, "path_not_allowed"),
    Bad("no such file", SUBMIT, lambda folder: {"path": str(folder / "no.json")}, "path_unreadable"),
    Bad("no such lane", SUBMIT, given(workflow={}, gpu="moon"), "invalid_argument", says="gpu"),
    Bad("no such job", "workflow_status", given(workflow_id="x"), "workflow_not_found"),
    Bad("no such job to wait for", WAIT, given(workflow_id="x"), "workflow_not_found"),
    Bad("no such job to cancel", "cancel_workflow", given(workflow_id="x"), "workflow_not_found"),
    Bad("no id", "workflow_status", given(), "invalid_argument", says="workflow_id"),
    Bad("time", WAIT, given(workflow_id="x", timeout_s=-1), "invalid_argument", says="timeout_s"),
    Bad("no such output", "view_output", given(output_id="x"), "not_found"),
    Bad("no such type", "list_models", given(type="shoes"), "invalid_argument"),
    Bad("cursor", "list_outputs", given(cursor="%%%"), "invalid_argument"),
    Bad("limit", "list_outputs", given(limit=0), "invalid_argument", says="limit"),
]


@pytest.mark.parametrize("mode", MODES)
async def test_bad_input_is_answered_with_a_code_and_a_next_step(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    wrong: dict[str, str] = {}
    async with (
        open_surface(tmp_path, workflow_roots=(folder,), max_graph_bytes=4_096) as surface,
        surface.client(mode) as client,
    ):
        for case in CASES:
            result = await client.call_tool(case.tool, case.arguments(folder))
            text = text_of(result)
            data = (result.meta or {}).get("comfy-bridge/error", {})
            good = (
                result.is_error
                and text.startswith(f"{case.code}: ")
                and case.says in text
                and data.get("code") == case.code
                and str(data["nextStep"])
                and text.endswith(str(data["nextStep"]))
            )
            if not good:
                wrong[case.name] = text
        counts = await surface.services.store.counts()
    assert wrong == {}
    assert sum(counts.values()) == 0
