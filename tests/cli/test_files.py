"""check and convert: files in every form, warnings and refusals by file, with and without an engine."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_mcp.cli.output import SHOWN_WARNINGS
from tests.cli.conftest import NOBODY, Shell, graph, written

MEDIA = Path(__file__).parents[1] / "data" / "media"
UI = Path(__file__).parents[1] / "data" / "ui_format"
NODES = UI / "object_info.json"


def saved(folder: Path, name: str, node: dict[str, Any]) -> Path:
    """A file of one node, in UI format."""
    path = folder / name
    path.write_text(json.dumps({"nodes": [{"id": 1, **node}], "links": []}))
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No engine, and a store that can't be made: a recorded node list needs neither."""
    monkeypatch.setenv("COMFYUI_URL", NOBODY)
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("COMFY_BRIDGE_STATE_DIR", str(tmp_path / "no-folder" / "state"))
    return tmp_path


# ------------------------------------------------------------------------------------------ convert


def test_a_saved_workflow_becomes_what_the_editor_exports(shell: Shell, offline: Path) -> None:
    recorded = json.loads((UI / "subgraphs.json").read_text())
    file = offline / "saved.json"
    file.write_text(json.dumps(recorded["ui"]))
    done = shell("convert", file, "--object-info", NODES)
    assert done.code == 0, done.err
    assert {key: node["inputs"] for key, node in done.json.items()} == {
        key: node["inputs"] for key, node in recorded["api"].items()
    }


def test_each_file_is_written_and_one_that_is_refused_does_not_stop_the_others(
    shell: Shell, offline: Path
) -> None:
    good = saved(offline, "good.json", {"type": "EmptyImage", "widgets_values": [8, 9, 1, 0, 77]})
    bad = saved(offline, "bad.json", {"type": "Nope", "inputs": [{"name": "x", "link": 1}]})
    bad.write_text(bad.read_text().replace('"links": []', '"links": [[1, 1, 0, 1, 0, "*"]]'))
    done = shell("convert", bad, good, offline / "none.json", "--object-info", NODES, "-o", offline / "api")
    assert done.code == 2
    assert done.lines == [str(offline / "api" / "good.json")]
    assert json.loads((offline / "api" / "good.json").read_text())["1"]["inputs"]["height"] == 9
    said = done.err.splitlines()
    assert f"{good}: warning: Node 1 (EmptyImage): the class has no input for saved values: 77." in said
    assert any(line.startswith(f"{bad}: error[graph_invalid]: ") and "'Nope'" not in line for line in said)
    assert any(line.startswith(f"{offline / 'none.json'}: error[path_unreadable]: ") for line in said)


def test_no_file_is_written_over(shell: Shell, offline: Path) -> None:
    file = saved(offline, "a.json", {"type": "EmptyImage"})
    before = file.read_text()
    (offline / "b").mkdir()
    twin = saved(offline / "b", "a.json", {"type": "EmptyImage", "widgets_values": [9]})
    done = shell("convert", file, "--object-info", NODES, "-o", offline)
    assert (done.code, done.lines) == (0, [str(offline / "a-2.json")])
    assert f"{file}: saved as {offline / 'a-2.json'}: another file is called a.json" in done.err
    assert file.read_text() == before
    for _ in range(2):  # the second time each has its file
        done = shell("convert", file, twin, "--object-info", NODES, "-o", offline / "api", "--json")
        names = [Path(each["saved"]).name for each in done.json["files"]]
        assert names == ["a.json", "a-2.json"]
    assert json.loads((offline / "api" / "a-2.json").read_text())["1"]["inputs"]["width"] == 9


def test_old_names_that_the_engine_replaces_are_known_from_its_recorded_answer(
    shell: Shell, offline: Path
) -> None:
    file = offline / "a.json"
    file.write_text(json.dumps({"1": {"class_type": "OldImage", "inputs": {}}}))
    replaced = offline / "replaced.json"
    replaced.write_text('{"OldImage": []}')
    assert shell("check", file, "--object-info", NODES).code == 2
    done = shell("check", file, "--object-info", NODES, "--node-replacements", replaced)
    assert done.code == 0, done.err
    replaced.write_text("[]")
    done = shell("check", file, "--object-info", NODES, "--node-replacements", replaced)
    assert (done.code, "GET /node_replacements" in done.err) == (2, True)
    done = shell("check", file, "--node-replacements", replaced)
    assert (done.code, "--object-info FILE" in done.err) == (2, True)


def test_all_warnings_of_a_file_are_in_the_document_and_the_first_on_stderr(
    shell: Shell, offline: Path
) -> None:
    nodes = [
        {
            "id": number,
            "type": "EmptyImage",
            "inputs": [{"name": "width", "type": "INT", "link": 9}],
            "widgets_values": [8, 8, 1, 0],
        }
        for number in range(SHOWN_WARNINGS + 9)
    ]
    file = offline / "a.json"
    file.write_text(json.dumps({"nodes": nodes, "links": []}))
    done = shell("convert", file, "--object-info", NODES, "--json")
    assert len(done.json["files"][0]["warnings"]) == SHOWN_WARNINGS + 9
    lines = done.err.splitlines()
    assert lines[SHOWN_WARNINGS:] == [f"{file}: warning: And 9 more warnings."]
    done = shell("check", file, "--object-info", NODES, "--json")
    (refused,) = done.json["files"]
    assert refused["error"] == "graph_invalid"
    assert len(refused["details"]["warnings"]) >= SHOWN_WARNINGS + 9
    assert "its link leads nowhere" in done.err


def test_without_a_node_list_the_engine_is_asked(shell: Shell, tmp_path: Path) -> None:
    file = saved(tmp_path, "a.json", {"type": "EmptyImage", "widgets_values": [8, 9, 1, 0]})
    done = shell("convert", file, "--json")
    assert done.code == 0, done.err
    (only,) = done.json["files"]
    assert only["graph"]["1"]["inputs"] == {"width": 8, "height": 9, "batch_size": 1, "color": 0}


def test_without_an_engine_convert_says_what_to_do(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_URL", NOBODY)
    done = shell("convert", saved(tmp_path, "a.json", {"type": "EmptyImage"}))
    assert done.code == 5
    assert "--object-info FILE" in done.err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 1}', "<html>"])
def test_what_is_no_node_list_is_refused(shell: Shell, offline: Path, content: str) -> None:
    nodes = offline / "nodes.json"
    nodes.write_text(content)
    done = shell("convert", saved(offline, "a.json", {"type": "EmptyImage"}), "--object-info", nodes)
    assert done.code == 2
    assert "GET /object_info" in done.err


# -------------------------------------------------------------------------------------------- check


def test_check_says_what_would_run_and_queues_nothing(shell: Shell, tmp_path: Path) -> None:
    done = shell("check", written(tmp_path, graph()), "--json")
    assert done.code == 0, done.err
    (only,) = done.json["files"]
    assert (only["status"], only["nodeCount"], only["warnings"]) == ("not_queued", 2, [])
    assert shell("workflows", "--json").json["workflows"] == []


def test_check_refuses_what_a_submit_refuses(shell: Shell, tmp_path: Path) -> None:
    wrong = graph()
    wrong["1"]["inputs"]["width"] = -5
    file = written(tmp_path, wrong)
    checked, submitted = shell("check", file), shell("submit", file)
    assert checked.code == submitted.code == 2
    assert submitted.err.splitlines()[0] in checked.err
    assert checked.err.startswith(f"{file}: error[graph_invalid]: ")


def test_check_by_a_recorded_node_list(shell: Shell, offline: Path) -> None:
    good = offline / "good.json"
    good.write_text(json.dumps(graph()))
    bad = saved(offline, "bad.json", {"type": "SaveImage", "widgets_values": ["x"]})
    done = shell("check", good, bad, "--object-info", NODES)
    assert done.code == 2
    assert done.lines == [f"{good}: would run (2 nodes)"]
    assert "input 'images': required and missing" in done.err


def test_check_says_how_many_nodes_run_and_how_many_do_not(shell: Shell, offline: Path) -> None:
    """Of a branch without an output, of one with a fault, muted and bypassed, inside of a subgraph too."""
    file = offline / "a.json"
    nodes: list[dict[str, Any]] = [
        {"id": 1, "type": "EmptyImage", "widgets_values": [8, 8, 1, 0]},
        {"id": 2, "type": "SaveImage", "widgets_values": ["x"], "inputs": [{"name": "images", "link": 1}]},
        {"id": 3, "type": "EmptyImage", "widgets_values": [8, 8, 1, 0]},
        {"id": 4, "type": "EmptyImage", "widgets_values": [-8, 8, 1, 0]},
        {"id": 5, "type": "SaveImage", "widgets_values": ["x"], "inputs": [{"name": "images", "link": 2}]},
        {"id": 6, "type": "EmptyImage", "mode": 2},
        {"id": 7, "type": "EmptyImage", "mode": 4},
    ]
    inside = {"id": "unused", "nodes": [{"id": 8, "type": "EmptyImage", "mode": 2}], "links": []}
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 4, 0, 5, 0, "IMAGE"]]
    file.write_text(json.dumps({"nodes": nodes, "links": links, "definitions": {"subgraphs": [inside]}}))
    done = shell("check", file, "--object-info", NODES)
    assert (done.code, done.lines) == (0, [f"{file}: would run (2 of 5 nodes; 3 more muted or bypassed)"])
    (only,) = shell("check", file, "--object-info", NODES, "--json").json["files"]
    assert [only[name] for name in ("nodeCount", "runCount", "offCount")] == [5, 2, 3]
    assert "does not run 3 (EmptyImage)" in done.err


def test_with_a_recorded_node_list_its_file_is_named(shell: Shell, offline: Path) -> None:
    file = offline / "a.json"
    ckpt = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "none.ckpt"}}
    file.write_text(json.dumps({**graph(), "8": {"class_type": "Nope", "inputs": {}}, "9": ckpt}))
    done = shell("check", file, "--object-info", NODES)
    assert done.code == 2
    assert "The workflow can't run: the node list in object_info.json lacks 1 class: Nope" in done.err
    assert "this engine" not in done.err
    assert "does not list 1 model file: none.ckpt" in done.err
    assert "Choose a model that the list has" in done.err
    alone = saved(offline, "b.json", {"type": "Nope"})
    done = shell("convert", alone, "--object-info", NODES)
    assert "the node list in object_info.json has no such class" in done.err


def test_convert_says_what_the_check_says_beside_faults(shell: Shell, offline: Path) -> None:
    file = offline / "a.json"
    nodes = graph()
    nodes["1"]["inputs"]["widht"] = 8
    file.write_text(json.dumps(nodes | {"7": {"class_type": "EmptyImage", "inputs": {}}}))
    done = shell("convert", file, "--object-info", NODES)
    assert done.code == 0
    assert "input 'widht': the class has no such input, so its value is not used" in done.err
    assert "does not run 7 (EmptyImage)" in done.err


# ------------------------------------------------------------------------------- files in every form


@pytest.mark.parametrize("path", sorted(MEDIA.iterdir()), ids=lambda path: path.suffix)
def test_a_file_that_comfyui_made_is_a_workflow(shell: Shell, path: Path) -> None:
    done = shell("convert", path)
    assert done.code == 0, done.err
    assert done.json["1"]["class_type"] == "EmptyImage"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_json_may_be_in_any_encoding_of_unicode(shell: Shell, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(json.dumps(graph()).encode(encoding))
    assert shell("check", file).code == 0
    assert shell("submit", "-", stdin=file.read_bytes()).code == 0


def test_a_picture_without_a_workflow_says_so(shell: Shell, tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "bare.png")
    done = shell("check", tmp_path / "bare.png")
    assert done.code == 2
    assert "(image/png) gives no workflow: it has none" in done.err


def test_without_an_engine_and_without_a_recorded_list_nothing_is_checked(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMFYUI_URL", NOBODY)
    done = shell("check", written(tmp_path, graph()))
    assert (done.code, done.out) == (5, "")
    assert "error[engine_unreachable]: No engine answers, so the workflow can't be checked." in done.err
    assert f"next: No ComfyUI answers at {NOBODY}. Start ComfyUI" in done.err


@pytest.mark.parametrize("option", ["--object-info", "--node-replacements"])
def test_a_recorded_list_that_cannot_be_read_is_not_called_a_workflow(
    shell: Shell, offline: Path, option: str
) -> None:
    others = [] if option == "--object-info" else ["--object-info", NODES]
    done = shell("check", written(offline, graph()), *others, option, offline / "none.json")
    assert done.code == 2
    assert "next: Give the path of a saved answer of GET /object_info" in done.err
