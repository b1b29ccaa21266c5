"""Engines from the command line."""

from pathlib import Path

import pytest

from tests.cli.conftest import NOBODY, EngineProcess, Shell, graph, written


def test_an_engine_is_listed_drained_and_resumed(shell: Shell) -> None:
    (listed,) = shell("engines", "list", "--json").json["engines"]
    engine = listed["id"]
    assert (listed["up"], listed["drained"]) == (True, False)
    drained = shell("engines", "drain", engine)
    assert drained.lines == [f"Engine {engine} ends what it has and takes nothing new."]
    assert "up, drained" in shell("engines", "list").out
    assert "up, drained, the embedded engine" in shell("doctor").out
    assert shell("engines", "resume", engine, "--json").json == {"engine": engine, "drained": False}
    assert "drained" not in shell("engines", "list").out


def test_an_engine_that_is_not_in_the_settings_is_not_found(shell: Shell) -> None:
    done = shell("engines", "drain", "nowhere")
    assert (done.code, done.out) == (3, "")
    assert "There is no engine 'nowhere'" in done.err


def test_the_first_engine_is_added_where_there_is_no_file_and_the_last_one_removed(
    shell: Shell, engine: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/fleet.md begins: nothing is wrong with a file that is not there yet."""
    file = tmp_path / "new" / "engines.toml"
    monkeypatch.delenv("COMFYUI_URL")
    monkeypatch.setenv("COMFY_BRIDGE_ENGINES_FILE", str(file))
    added = shell("engines", "add", "here", engine.url)
    assert (added.code, added.err) == (0, "")
    assert added.lines == [f"{file} is changed. `comfy-bridge doctor` shows it within seconds."]
    head, line = shell("engines", "list").lines
    assert (head.split(), line.split()) == (
        ["ENGINE", "STATE", "URL", "LABELS", "ERROR"],
        ["here", "up", engine.url, "-", "-"],
    )
    assert "`comfy-bridge doctor`" in shell("engines", "remove", "here", "--json").json["nextStep"]
    listed = shell("engines", "list")
    assert (listed.out, listed.err) == (
        "",
        "There is no engine. `comfy-bridge engines add NAME URL` adds one.\n",
    )
    run = shell("run", written(tmp_path, graph()))
    assert run.code == 5
    assert run.err.startswith("error[engine_unreachable]: There is no engine.\nnext: Add one: ")


@pytest.mark.parametrize("command", ["status", "workflows", "queue"])
@pytest.mark.parametrize("cause", ["drained", "down"])
def test_a_process_that_has_just_begun_says_why_a_workflow_waits(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, cause: str
) -> None:
    """It asks first: it has followed no engine, and read nothing of which are drained."""
    if cause == "down":
        monkeypatch.setenv("COMFYUI_URL", NOBODY)
        why = f"No ComfyUI answers at {NOBODY}. Start ComfyUI"
    else:
        (engine,) = shell("engines", "list", "--json").json["engines"]
        shell("engines", "drain", engine["id"])
        why = f"Engine {engine['id']} is drained"
    (workflow_id,) = shell("submit", written(tmp_path, graph())).lines
    shown = shell(command, *([workflow_id] if command == "status" else []))
    assert f"queued, position 1, held: {why}" in shown.out
