"""run, submit, status, wait, cancel: exit codes, documents, files."""

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import NOBODY, Shell, ended, graph, slow_graph, written


def submitted(shell: Shell, file: Path, *options: str) -> str:
    done = shell("submit", file, *options)
    assert done.code == 0, done.err
    return done.lines[0]


# ------------------------------------------------------------------------------------------------ run


def test_run_saves_the_picture_and_prints_its_path(shell: Shell, tmp_path: Path) -> None:
    done = shell("run", written(tmp_path, graph(0x102030)), "-o", tmp_path / "new" / "pictures")
    assert done.code == 0, done.err
    (path,) = done.lines
    assert Path(path).parent == tmp_path / "new" / "pictures"
    with Image.open(path) as picture:
        assert picture.convert("RGB").getpixel((5, 5)) == (0x10, 0x20, 0x30)
    assert "completed 100 %" in done.err


def test_run_json_is_one_document_in_the_v1_shape(shell: Shell, tmp_path: Path) -> None:
    done = shell("run", written(tmp_path, graph()), "-o", tmp_path / "out", "--json", "--quiet")
    assert done.code == 0
    document = done.json
    assert document["status"] == "completed"
    assert document["progress"] == 100.0
    assert [output["type"] for output in document["outputs"]] == ["image"]
    assert [Path(path).name for path in document["saved"]] == [document["outputs"][0]["filename"]]
    assert "%" not in done.err


def test_run_without_a_folder_lists_the_outputs(shell: Shell, tmp_path: Path) -> None:
    done = shell("run", written(tmp_path, graph()))
    assert done.code == 0
    assert done.lines[0].startswith("image cli_")


def test_run_reads_the_workflow_from_stdin(shell: Shell) -> None:
    done = shell("run", "-", "--json", stdin=json.dumps(graph()).encode())
    assert (done.code, done.json["status"]) == (0, "completed")


def test_run_of_a_workflow_that_fails_says_where_and_exits_7(shell: Shell, tmp_path: Path) -> None:
    failing = graph()
    failing["3"] = {"class_type": "BridgeFail", "inputs": {"image": ["1", 0], "message": "no luck today"}}
    failing["2"]["inputs"]["images"] = ["3", 0]
    done = shell("run", written(tmp_path, failing), "--json")
    assert done.code == 7
    assert done.json["status"] == "failed"
    assert done.json["failure"]["nodeId"] == "3"
    assert "no luck today" in done.err


def test_run_with_no_engine_exits_5_and_queues_nothing(shell: Shell, tmp_path: Path) -> None:
    done = shell("--engine", NOBODY, "run", written(tmp_path, graph()), "--json")
    assert done.code == 5
    assert done.json["error"] == "engine_unreachable"
    assert done.json["retryable"] is True
    assert "error[engine_unreachable]" in done.err
    assert shell("workflows", "--json").json["workflows"] == []


def test_run_that_takes_too_long_exits_9_and_the_job_goes_on(shell: Shell, tmp_path: Path) -> None:
    done = shell("run", written(tmp_path, slow_graph()), "--timeout", "0", "--json")
    assert done.code == 9
    assert done.json["status"] in {"queued", "running"}
    workflow_id = done.json["workflowId"]
    assert f"comfy-bridge wait {workflow_id}" in done.err
    assert shell("cancel", workflow_id).code == 0
    assert shell("wait", workflow_id).code == 8


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{not json", "graph_invalid"),
        (b"\xff\xfe\x00", "graph_invalid"),
        (b"[1, 2]", "graph_invalid"),
        (b'{"nodes": [], "links": [], "version": 0.4}', "graph_ui_format"),
        (b'{"1": {"class_type": "EmptyImaeg", "inputs": {}}}', "graph_invalid"),
        (b" " * (4 * 2**20) + b"{}", "too_large"),
    ],
)
@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_bad_workflow_exits_2_with_a_code_and_a_next_step(
    shell: Shell, tmp_path: Path, command: str, content: bytes, code: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    done = shell(command, file, "--json")
    assert (done.code, done.json["error"]) == (2, code)
    assert done.json["nextStep"]
    assert f"error[{code}]: " in done.err
    assert "\nnext: " in done.err
    assert shell("workflows", "--json").json["workflows"] == []


def test_an_unknown_class_comes_with_the_nearest_names(shell: Shell, tmp_path: Path) -> None:
    broken = graph()
    broken["1"]["class_type"] = "EmptyImaeg"
    done = shell("submit", written(tmp_path, broken), "--json")
    (problem,) = [each for each in done.json["problems"] if each["classType"] == "EmptyImaeg"]
    assert (problem["kind"], problem["nodeId"]) == ("missing_node_type", "1")
    assert "EmptyImage" in problem["suggestions"]


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_file_that_is_not_there_exits_2(shell: Shell, tmp_path: Path, command: str) -> None:
    done = shell(command, tmp_path / "nothing.json")
    assert done.code == 2
    assert "error[path_unreadable]" in done.err
    assert "No such file" in done.err
    assert done.out == ""


def test_a_folder_that_cannot_be_made_stops_the_run_before_it_starts(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, graph())
    done = shell("run", file, "-o", file / "below")
    assert done.code == 2
    assert "can't be written" in done.err
    assert shell("workflows", "--json").json["workflows"] == []


def test_the_command_line_reads_files_that_agents_may_not(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "allowed").mkdir()
    monkeypatch.setenv("COMFY_BRIDGE_WORKFLOW_ROOTS", str(tmp_path / "allowed"))
    assert shell("submit", written(tmp_path, graph())).code == 0


# ------------------------------------------------------------------------------- submit, status, wait


def test_submit_prints_the_id_alone_and_says_that_nobody_runs_it(shell: Shell, tmp_path: Path) -> None:
    done = shell("submit", written(tmp_path, graph()))
    assert done.code == 0
    (workflow_id,) = done.lines
    assert f"comfy-bridge wait {workflow_id}" in done.err
    status = shell("status", workflow_id, "--json").json
    assert (status["status"], status["queuePosition"], status["attempt"]) == ("queued", 1, 0)


def test_submit_json_says_whether_a_process_drives_the_engine(shell: Shell, tmp_path: Path) -> None:
    document = shell("submit", written(tmp_path, graph()), "--json").json
    assert (document["status"], document["queuePosition"], document["driven"]) == ("queued", 1, False)


def test_submit_with_no_engine_still_queues_and_warns(shell: Shell, tmp_path: Path) -> None:
    done = shell("--engine", NOBODY, "submit", written(tmp_path, graph()))
    assert done.code == 0
    assert "warning: No ComfyUI answers" in done.err


def test_wait_runs_what_was_submitted_and_saves_it(shell: Shell, tmp_path: Path) -> None:
    workflow_id = submitted(shell, written(tmp_path, graph()))
    done = shell("wait", workflow_id, "-o", tmp_path / "out")
    assert done.code == 0
    assert [Path(line).is_file() for line in done.lines] == [True]
    again = shell("wait", workflow_id, "-o", tmp_path / "out")
    assert again.lines == done.lines, "the same bytes are not saved twice"


def test_status_is_a_block_for_people(shell: Shell, tmp_path: Path) -> None:
    workflow_id = submitted(shell, written(tmp_path, graph()), "--priority", "high")
    shell("wait", workflow_id)
    lines = dict(line.split(None, 1) for line in shell("status", workflow_id).lines)
    assert lines["workflow"] == workflow_id
    assert lines["status"] == "completed 100 %"
    assert lines["client"] == "local, priority high"
    assert "cli_" in lines["output"]


def test_priorities_run_before_age(shell: Shell, tmp_path: Path) -> None:
    low = submitted(shell, written(tmp_path, graph()), "--priority", "low")
    high = submitted(shell, written(tmp_path, graph()), "--priority", "high")
    queue = shell("queue", "--json").json
    assert [job["workflowId"] for job in queue["queued"]] == [high, low]


@pytest.mark.parametrize("command", ["status", "wait", "cancel"])
def test_an_id_that_does_not_exist_exits_3(shell: Shell, command: str) -> None:
    done = shell(command, "no-such-id", "--json")
    assert (done.code, done.json["error"]) == (3, "workflow_not_found")
    assert "comfy-bridge workflows" in done.json["nextStep"]


# ---------------------------------------------------------------------------------------------- cancel


def test_cancel_of_a_queued_workflow_is_done_at_once(shell: Shell, tmp_path: Path) -> None:
    workflow_id = submitted(shell, written(tmp_path, graph()))
    done = shell("cancel", workflow_id, "--reason", "changed my mind", "--json")
    assert (done.code, done.json["status"]) == (0, "cancelled")
    assert shell("cancel", workflow_id).code == 0, "repeating it is fine"
    waited = shell("wait", workflow_id, "--json")
    assert (waited.code, waited.json["status"]) == (8, "cancelled")


def test_what_nothing_else_ends_is_abandoned(shell: Shell, tmp_path: Path) -> None:
    workflow_id = submitted(shell, written(tmp_path, graph()))
    done = shell("jobs", "abandon", workflow_id)
    assert (done.code, done.lines) == (0, [f"{workflow_id}: cancelled"])
    again = shell("jobs", "abandon", workflow_id)
    assert again.code == 4
    assert f"next: `comfy-bridge status {workflow_id}`" in again.err
    assert shell("jobs", "abandon", "nope").code == 3


def test_several_are_cancelled_together_and_all_of_ones_own(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, graph())
    first, second, third = (submitted(shell, file) for _ in range(3))
    done = shell("cancel", first, second)
    assert (done.code, done.lines) == (0, [f"{first},{second}: 2 cancelled"])
    assert shell("status", first, second, "--json").json["workflows"] == {
        first: "cancelled",
        second: "cancelled",
    }
    assert shell("cancel", "--mine").lines == ["all of yours: 1 cancelled"]
    assert shell("wait", third, first, "--json").json["status"] == "cancelled"
    assert shell("cancel", "--mine", first).code == 2
    assert shell("cancel").code == 2


def test_cancel_of_a_finished_workflow_exits_4(shell: Shell, tmp_path: Path) -> None:
    workflow_id = submitted(shell, written(tmp_path, graph()))
    shell("wait", workflow_id)
    done = shell("cancel", workflow_id, "--json")
    assert (done.code, done.json["error"]) == (4, "not_cancellable")
    assert done.json["details"]["currentStatus"] == "completed"


def test_ctrl_c_leaves_the_job_running_and_cancel_ends_it_with_no_other_process_there(
    shell: Shell, tmp_path: Path
) -> None:
    with ended(shell.start("run", written(tmp_path, slow_graph()), "--json")) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        workflow_id = next(said).split()[1]
        assert any(line.startswith("running") for line in said)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"comfy-bridge wait {workflow_id}" in err
    assert json.loads(out)["status"] == "running"
    assert shell("status", workflow_id, "--json").json["status"] == "running"

    assert shell("cancel", workflow_id).code == 0
    assert shell("wait", workflow_id).code == 8


def test_ctrl_c_with_cancel_on_interrupt_ends_the_job(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, slow_graph())
    with ended(shell.start("run", file, "--cancel-on-interrupt", "--json")) as process:
        assert process.stderr is not None
        assert any(line.startswith("running") for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["status"]) == (8, "cancelled")


# ---------------------------------------------------------------------------------------------- retry


def test_a_failed_workflow_is_retried_and_its_attempts_are_shown(shell: Shell, tmp_path: Path) -> None:
    failing = graph()
    failing["3"] = {"class_type": "BridgeFail", "inputs": {"image": ["1", 0], "message": "no luck"}}
    failing["2"]["inputs"]["images"] = ["3", 0]
    first = shell("run", written(tmp_path, failing), "--json").json["workflowId"]
    listed = shell("workflows", "--status", "failed", "--failure-kind", "node_error")
    assert first in listed.out
    assert "(node_error)" in listed.out
    assert shell("workflows", "--failure-kind", "oom", "--json").json["workflows"] == []

    retried = shell("retry", first)
    assert retried.code == 0, retried.err
    (again,) = retried.lines
    assert again != first
    assert shell("wait", again).code == 7
    shown = shell("status", again, "--attempts")
    assert f"retry of  {first}" in shown.out
    assert shown.out.count("failed: RuntimeError: no luck") == 2
    assert "attempt" not in shell("status", again).out.replace(", attempt 1", "")


def test_a_retry_of_what_has_completed_exits_4(shell: Shell, tmp_path: Path) -> None:
    job = shell("run", written(tmp_path, graph()), "--json").json["workflowId"]
    done = shell("retry", job, "--json")
    assert (done.code, done.json["error"]) == (4, "not_retryable")


def test_a_run_that_takes_longer_than_its_timeout_fails_and_exits_7(shell: Shell, tmp_path: Path) -> None:
    done = shell("run", written(tmp_path, slow_graph()), "--run-timeout", "0.3", "--json")
    assert (done.code, done.json["failure"]["kind"]) == (7, "timeout")
    assert "run timeout" in done.err


def test_a_submitted_workflow_shows_until_when_it_must_start(shell: Shell, tmp_path: Path) -> None:
    job = submitted(shell, written(tmp_path, graph()), "--queue-timeout", "3600")
    assert "start by" in shell("status", job).out
    state = shell("status", job, "--json").json
    assert state["queueDeadline"] == state["createdTime"] + 3_600_000
    assert shell("cancel", job).code == 0
    assert shell("submit", written(tmp_path, graph()), "--queue-timeout", "0").code == 2


# ------------------------------------------------------------------------------------------------ graph


def test_graph_prints_the_file_that_was_submitted(shell: Shell, tmp_path: Path) -> None:
    api = graph()
    body = {"prompt": api, "extra_data": {"extra_pnginfo": {"note": "mine"}}}
    with_more = submitted(shell, written(tmp_path, body))
    assert json.loads(shell("graph", with_more).out) == body
    assert json.loads(shell("graph", with_more, "--api").out) == api
    assert shell("graph", with_more, "--json").json == {"workflowId": with_more, "graph": api, "file": body}
    alone = submitted(shell, written(tmp_path, api))
    assert shell("graph", alone).out == json.dumps(api, indent=2) + "\n"
    assert shell("graph", "nope").code != 0


def test_a_batch_of_a_named_workflow_with_a_file_of_mine(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` sets inputs, takes a picture of the working folder, and saves what each combination made."""
    Image.new("RGB", (10, 8), "orange").save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    asked = ("-i", "image=cat.png", "--matrix", "scale=1,3", "--priority", "low", "--name", "Cats")
    ran = shell("run", "upscale", *asked, "--save-to", "art", "-q", "--json")
    assert ran.code == 0, ran.err
    made = [Path(path) for path in ran.json["saved"]]
    assert {path.parent.resolve() for path in made} == {tmp_path / "art"}
    sizes = []
    for path in made:
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sorted(sizes) == [(10, 8), (30, 24)]
    assert set(ran.json["workflows"].values()) == {"completed"}
    assert (ran.json["name"], ran.json["priority"]) == ("Cats", "low")


def test_outputs_are_saved_under_the_name_of_a_file(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an agent's `save_to`: with the suffix of what it is, and never over another file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "fox.png").write_text("of mine")
    one = shell("run", written(tmp_path, graph()), "-o", "art/fox.jpg", "-q", "--json").json["saved"]
    assert [Path(path).name for path in one] == ["fox-2.png"]
    (again,) = shell("run", written(tmp_path, graph()), "-o", "new/fox.png", "-q", "--json").json["saved"]
    assert Path(again).resolve() == tmp_path / "new" / "fox.png"
    listed = shell("outputs", "-o", "all/it.png", "--json").json["saved"]
    assert listed == ["all/it.png", "all/it.png"], "both have the same bytes"
    assert (tmp_path / "art" / "fox.png").read_text() == "of mine"


def test_run_and_submit_say_where_a_workflow_may_run(shell: Shell, tmp_path: Path) -> None:
    file = written(tmp_path, graph())
    refused = shell("submit", file, "--on", "nowhere", "--json")
    assert refused.code == 2
    assert "nowhere" in refused.json["message"]
    refused = shell("submit", file, "--label", "big", "--label", "quiet", "--json")
    assert refused.code == 2
    assert "Labels: none" in refused.json["nextStep"]
    refused = shell(
        "submit", file, "--not-on", "nowhere", "--not-on", "127.0.0.1", "--gpu", "salad", "--json"
    )
    assert (refused.code, refused.json["error"]) == (2, "lane_unavailable")
    assert "or set COMFY_BRIDGE_" in refused.err
    varied = shell("submit", file, "--variations", "2", "--json")
    assert "no seed to vary" in varied.json["message"]
