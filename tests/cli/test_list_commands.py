"""models, outputs, workflows, queue."""

from pathlib import Path

import pytest

from tests.cli.conftest import NOBODY, Shell, graph, written


def test_models_are_what_the_engine_has(shell: Shell) -> None:
    done = shell("models", "--type", "checkpoints", "--json")
    assert done.code == 0
    (model,) = done.json["models"]
    assert (model["name"], model["type"], model["size"]) == ("small.safetensors", "checkpoints", 5)
    lines = shell("models").lines
    assert lines[0].split() == ["TYPE", "NAME", "SIZE", "SHA256"]
    assert lines[1].split() == ["checkpoints", "small.safetensors", "5", "B", "-"]


def test_models_of_a_configured_folder(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "loras").mkdir(parents=True)
    (tmp_path / "models" / "loras" / "style.safetensors").write_bytes(b"x" * 1500)
    monkeypatch.setenv("COMFYUI_MODELS", str(tmp_path / "models"))
    done = shell("models", "--search", "STYLE", "--json")
    assert [(item["name"], item["type"]) for item in done.json["models"]] == [("style.safetensors", "loras")]
    assert "1.5 kB" in shell("models", "--search", "STYLE").out


def test_a_model_type_that_does_not_exist_exits_3(shell: Shell) -> None:
    done = shell("models", "--type", "checkpionts", "--json")
    assert (done.code, done.json["error"]) == (2, "invalid_argument")


def test_outputs_are_listed_newest_first_and_fetched(shell: Shell, tmp_path: Path) -> None:
    ids = [
        shell("run", written(tmp_path, graph(color)), "--json", "-q").json["workflowId"] for color in (1, 2)
    ]
    listed = shell("outputs", "--json").json["outputs"]
    assert [item["workflowId"] for item in listed] == ids[::-1]
    lines = shell("outputs").lines
    assert lines[0].split() == ["OUTPUT", "TYPE", "SIZE", "CREATED", "NAME"]
    assert listed[0]["outputId"] in lines[1]

    saved = shell("outputs", "--workflow", ids[0], "-o", tmp_path / "pictures")
    assert saved.code == 0
    assert [Path(line).read_bytes()[:4] for line in saved.lines] == [b"\x89PNG"]
    documents = shell("outputs", "--workflow", ids[0], "-o", tmp_path / "pictures", "--json").json
    assert documents["saved"] == saved.lines


def test_outputs_can_be_narrowed(shell: Shell, tmp_path: Path) -> None:
    made = shell("run", written(tmp_path, graph()), "--json", "-q").json["outputs"][0]
    assert shell("outputs", "--type", "video", "--json").json["outputs"] == []
    assert len(shell("outputs", "--since", made["createdAt"] - 1, "--json").json["outputs"]) == 1
    assert shell("outputs", "--since", made["createdAt"] + 1, "--json").json["outputs"] == []
    assert len(shell("outputs", "--since", "2020-01-01", "--json").json["outputs"]) == 1
    assert shell("workflows", "--since", "2999-12-31T23:59", "--json").json["workflows"] == []
    refused = shell("outputs", "--since", "yesterday")
    assert (refused.code, "no date such as 2026-11-30" in refused.err) == (2, True)


def test_workflows_come_in_pages(shell: Shell, tmp_path: Path) -> None:
    ids = [shell("submit", written(tmp_path, graph())).lines[0] for _ in range(3)]
    first = shell("workflows", "--limit", 2, "--json").json
    second = shell("workflows", "--limit", 2, "--cursor", first["nextCursor"], "--json").json
    assert [job["workflowId"] for job in first["workflows"] + second["workflows"]] == ids[::-1]
    assert second["nextCursor"] is None
    assert shell("workflows", "--limit", 2).lines[-1] == f"more: --cursor {first['nextCursor']}"


def test_workflows_can_be_narrowed(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, graph())
    mine = shell("submit", file).lines[0]
    monkeypatch.setenv("COMFY_BRIDGE_CLIENT_NAME", "other")
    theirs = shell("submit", file).lines[0]
    shell("cancel", theirs)
    for options, expected in [
        (["--status", "cancelled"], [theirs]),
        (["--client", "local"], [mine]),
        (["--client", "nobody"], []),
    ]:
        found = shell("workflows", *options, "--json").json["workflows"]
        assert [job["workflowId"] for job in found] == expected


def test_a_cursor_that_is_none_exits_2(shell: Shell) -> None:
    done = shell("workflows", "--cursor", "%%%", "--json")
    assert (done.code, done.json["error"]) == (2, "invalid_argument")


def test_the_queue_in_run_order_for_people(shell: Shell, tmp_path: Path) -> None:
    assert shell("queue").lines[-1] == "no workflow was submitted yet"
    workflow_id = shell("submit", written(tmp_path, graph())).lines[0]
    lines = shell("queue").lines
    assert lines[1].split()[:4] == [workflow_id, "queued,", "position", "1"]
    assert lines[-1] == "1 queued"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["keys", "list"], "There is no key."),
        (["webhooks", "list"], "There is no webhook."),
        (["webhooks", "deliveries"], "There is no such delivery."),
    ],
)
def test_a_list_of_nothing_says_so_and_leaves_stdout_empty(
    shell: Shell, command: list[str], said: str
) -> None:
    done = shell(*command)
    assert (done.code, done.out) == (0, "")
    assert said in done.err


def test_a_webhook_is_listed_with_the_events_that_it_gets(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_BRIDGE_PRIVATE_URLS", "true")
    shell("webhooks", "set", "http://127.0.0.1:8000/comfy")
    (line,) = shell("webhooks", "list").lines
    assert line == "local  http://127.0.0.1:8000/comfy  completed, failed and cancelled"


def test_outputs_of_a_workflow_that_does_not_exist_are_said_to_be_none(shell: Shell) -> None:
    done = shell("outputs", "--workflow", "nope")
    assert (done.code, done.err) == (0, "warning: Workflow nope not found.\n")


def test_node_classes_come_in_pages(shell: Shell) -> None:
    first = shell("nodes", "--limit", 1)
    cursor = first.lines[-1].removeprefix("more: --cursor ")
    assert "next_cursor" not in first.out
    second = shell("nodes", "--limit", 1, "--cursor", cursor)
    assert second.lines[1] != first.lines[1]
    assert "Run `comfy-bridge nodes` with other words." in shell("nodes", "zebra").out


def test_what_is_not_known_without_an_engine_is_said_beside_the_list(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_URL", NOBODY)
    found = shell("find")
    assert (found.code, found.lines) == (0, ["No workflow."])
    assert "warning: No engine answers" in found.err
    asked = [shell("describe", "fox"), shell("nodes", "blur")]
    assert [each.code for each in asked] == [3, 5]
    for each in asked:
        assert "No engine answers" in each.err
        assert "system_status" not in each.err
    assert "Run `comfy-bridge doctor` to see why no engine answers." in asked[0].err
    assert f"next: No ComfyUI answers at {NOBODY}. Start ComfyUI" in asked[1].err


def test_a_deleted_working_folder_keeps_no_command_from_working(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: type[Path]) -> Path:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "cwd", classmethod(gone))
    assert shell("workflows").code == 0
    assert "does not exist any more" in shell("doctor", "--write", "cursor").err
    outside = shell("run", "/dev/null/fox.json")
    assert (outside.code, "path_unreadable" in outside.err) == (2, True)
