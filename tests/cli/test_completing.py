"""A shell completes what exists: names of workflows, inputs, ids, engines; and writes nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from comfy_mcp.cli import completing
from comfy_mcp.cli.app import cli
from tests.cli.conftest import NOBODY, EngineProcess, Shell, graph, written
from tests.support.graphs import picture


@pytest.fixture(autouse=True)
def _a_busy_machine_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "LIMIT_S", 60.0)


def completed(*line: str) -> list[CompletionItem]:
    """What is offered for the last word of the line."""
    *words, begun = line
    return ShellComplete(cli, {}, "comfy-bridge", "_COMFY_BRIDGE_COMPLETE").get_completions(words, begun)


def values(*line: str) -> list[str]:
    return [each.value for each in completed(*line) if each.type == "plain"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer than who pressed the key waits."""
    monkeypatch.setattr(completing, "LIMIT_S", 60.0)


@pytest.fixture
def poster(engine: EngineProcess, shell: Shell) -> Iterator[str]:
    """The name of a workflow that somebody saved in ComfyUI."""
    saved = engine.base / "user" / "default" / "workflows" / "Fox poster.json"
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.write_text(json.dumps(picture()))
    yield saved.stem
    saved.unlink()


@pytest.mark.parametrize("command", ["run", "submit", "describe"])
def test_names_of_workflows_and_files(command: str, poster: str) -> None:
    assert values(command, "fo") == [poster]
    assert set(values(command, "")) == {poster, "upscale"}
    assert [each.type for each in completed(command, "zz")] == ["file"]


def test_bash_takes_a_value_as_it_is(poster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_COMFY_BRIDGE_COMPLETE", "bash_complete")
    assert values("run", "Fox p") == ["Fox\\ poster"]


def test_inputs_of_the_workflow_that_the_line_names(poster: str) -> None:
    assert "seed=" not in values("run", "upscale", "-i", "")
    assert values("run", "upscale", "-i", "sc") == ["scale="]
    assert "width=" in values("submit", poster, "-i", "")
    for line in (("run", "upscale", "-i", "scale=2"), ("run", "-i", "s"), ("run", "nothing", "-i", "s")):
        assert values(*line) == []


def test_ids_the_newest_first(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, graph())
    ids = [shell("submit", file, "--name", name).lines[0] for name in ("first", "second")]
    for command in ("status", "wait", "cancel", "retry", "graph"):
        assert values(command, "") == ids[::-1]
    assert values("status", ids[0][:8]) == [ids[0]]
    assert completed("status", "")[0].help == "queued second"


def test_engines(engine: EngineProcess, shell: Shell) -> None:
    (name,) = values("run", "x.json", "--on", "")
    assert engine.url.endswith(name)
    assert values("engines", "drain", name[:3]) == [name]


def test_what_can_not_be_found_out_is_not_completed_and_nothing_is_written(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "LIMIT_S", 0.5)
    assert values("--state-dir", str(tmp_path / "s"), "--engine", NOBODY, "run", "") == []
    assert values("--state-dir", "/dev/null/none", "status", "") == []
    assert values("--engine", "no url", "run", "x", "--on", "") == []
    assert capsys.readouterr() == ("", "")
