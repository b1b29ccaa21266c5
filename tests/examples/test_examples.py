"""Every file in examples/ runs."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.examples.conftest import EXAMPLES, ROOT, Runner
from tests.support.warm_python import WARM_PYTHON

LIMIT_S = 120
"""For a process that ends by itself; others use the machine too."""

COVERED = {
    "01_picture.json",
    "02_slow_steps.json",
    "03_chain_many_outputs.json",
    "browser.html",
    "curl.sh",
    "demo.py",
    "http_client.py",
    "mcp_client.py",
    "node_client.mjs",
    "prometheus.yml",
    "submit.sh",
    "txt2img_sd15.json",
    "webhook_receiver.py",
}


def test_no_example_is_without_a_test() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == COVERED


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("01_picture.json", {"image": 1}),
        ("02_slow_steps.json", {"image": 1}),
        ("03_chain_many_outputs.json", {"image": 8, "text": 1}),
    ],
)
def test_workflows_run_on_the_embedded_engine(
    runner: Runner, engine_url: str, name: str, kinds: dict[str, int]
) -> None:
    done = runner(WARM_PYTHON, "-m", "comfy_mcp", "run", EXAMPLES / name, "--json", COMFYUI_URL=engine_url)
    assert done.code == 0, done.err
    types = [output["type"] for output in json.loads(done.out)["outputs"]]
    assert {kind: types.count(kind) for kind in types} == kinds


def test_the_mcp_client_saves_what_the_workflow_made(runner: Runner, engine_url: str) -> None:
    workflow = EXAMPLES / "03_chain_many_outputs.json"
    done = runner.python(EXAMPLES / "mcp_client.py", workflow, "pictures", COMFYUI_URL=engine_url)
    assert done.code == 0, done.err
    saved = [runner.folder / line for line in done.lines]
    assert len(saved) == 9
    assert all(path.stat().st_size > 0 for path in saved)
    assert "100 % " in done.err


def test_the_mcp_client_says_what_the_server_refuses(runner: Runner, engine_url: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"1": {"class_type": "Nothing", "inputs": {}}}')
    done = runner.python(EXAMPLES / "mcp_client.py", broken, "pictures", COMFYUI_URL=engine_url)
    assert done.code == 1
    assert "graph_invalid" in done.err


def test_the_script_submits_all_and_saves_each(runner: Runner, engine_url: str) -> None:
    workflows = [EXAMPLES / "01_picture.json", EXAMPLES / "03_chain_many_outputs.json"]
    done = runner(EXAMPLES / "submit.sh", "pictures", *workflows, COMFYUI_URL=engine_url)
    assert done.code == 0, done.err
    assert len(done.lines) == 10
    assert all((runner.folder / line).is_file() for line in done.lines)


def test_the_script_ends_with_the_code_of_what_failed(
    runner: Runner, engine_url: str, tmp_path: Path
) -> None:
    failing = json.loads((EXAMPLES / "02_slow_steps.json").read_text())
    failing["1"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
    }
    failing["3"] = {"class_type": "BridgeFail", "inputs": {"image": ["1", 0], "message": "on purpose"}}
    failing["2"]["inputs"]["images"] = ["3", 0]
    path = tmp_path / "failing.json"
    path.write_text(json.dumps(failing))
    done = runner(
        EXAMPLES / "submit.sh", "pictures", path, EXAMPLES / "01_picture.json", COMFYUI_URL=engine_url
    )
    assert done.code == 7
    assert [Path(line).name for line in done.lines] == ["sunset_00001_.png"], (
        "the others are saved all the same"
    )


def test_the_demo_ends_with_the_path_of_a_picture(runner: Runner) -> None:
    done = runner.python(EXAMPLES / "demo.py", "--output", runner.folder / "demo")
    assert done.code == 0, done.err
    picture = Path(done.lines[-1])
    assert picture.parent == runner.folder / "demo"
    with Image.open(picture) as image:
        assert image.size == (768, 512)
    for step in ("start engine", "connect", "tools/list", "submit_workflow", "follow", "resources/read"):
        assert any(line.startswith(step) for line in done.lines)
    updates = [line.split(";")[1] for line in done.lines if line.startswith("follow")]
    assert all(" 0 " not in line for line in updates), "each was followed in both ways"


def test_the_demo_uses_an_engine_that_is_already_there(runner: Runner, engine_url: str) -> None:
    done = runner.python(EXAMPLES / "demo.py", "--output", runner.folder / "demo", COMFYUI_URL=engine_url)
    assert done.code == 0, done.err
    assert Path(done.lines[-1]).is_file()
    assert not any(line.startswith("start engine") for line in done.lines)


def test_the_demo_says_what_is_wrong(runner: Runner) -> None:
    done = runner.python(
        EXAMPLES / "demo.py", "--output", runner.folder / "demo", COMFYUI_URL="http://127.0.0.1:9"
    )
    assert done.code == 1
    assert [line.split()[0] for line in done.lines[2:]] == [
        "connect",
        "tools/list",
    ]  # what was done until then
    assert "no ComfyUI answers at http://127.0.0.1:9" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(runner: Runner, number: signal.Signals) -> None:
    output = runner.folder / "demo"
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "demo.py"), "--output", str(output)],
        cwd=runner.folder,
        env=dict(runner.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        # The engine writes this once it is there; then the demo is in the middle of its work.
        wait_for_text(demo, output / "engine.log", "not ComfyUI")
        demo.send_signal(number)
        _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "interrupted" in err
    assert survivors(output) == []


def wait_for_text(process: "subprocess.Popen[str]", file: Path, text: str) -> None:
    """Until the file has the text; ends by the test's own limit otherwise."""
    while process.poll() is None:
        if file.is_file() and text in file.read_text():
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"the demo ended with {process.returncode}")


def survivors(folder: Path) -> list[str]:
    """The commands of processes that name the folder and do not end by themselves.

    A server whose client was cut off while it started ends when it finds its stdin closed.
    """
    left = [pid for pid in processes_below(folder) if not ends(pid)]
    return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left]


def processes_below(folder: Path) -> list[int]:
    """Processes whose arguments or environment name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if str(folder).encode() in said:
            found.append(int(process.name))
    return found


def ends(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], LIMIT_S)[0])
    finally:
        os.close(handle)


@pytest.mark.live
@pytest.mark.timeout(600)
def test_the_demo_with_the_real_comfyui_makes_a_picture_with_the_sampler(runner: Runner) -> None:
    done = runner.python(
        EXAMPLES / "demo.py",
        *("--engine", "comfyui", "--output", runner.folder / "demo"),
        HOME=os.environ.get("HOME", str(runner.folder)),
    )
    assert done.code == 0, done.err
    picture = Path(done.lines[-1])
    assert picture.name.startswith("txt2img")
    with Image.open(picture) as image:
        assert image.size == (128, 128)


def test_the_examples_name_no_file_outside_the_repository() -> None:
    texts = [path.read_text(encoding="utf-8") for path in EXAMPLES.iterdir() if path.is_file()]
    assert [text for text in texts if str(ROOT) in text] == []
