"""The commands that stay: engine and mcp."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, EngineProcess, Shell, ended, written
from tests.editor import recorded
from tests.support.warm_python import WARM_PYTHON


def test_the_engine_prints_its_url_answers_and_ends_with_0(shell: Shell, tmp_path: Path) -> None:
    base = tmp_path / "engine"
    with ended(shell.start("engine", "--port", "0", "--base-directory", base)) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/system_stats", timeout=30) as answer:
            stats = json.load(answer)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert stats["system"]["embedded_engine"]["is_comfyui"] is False
    assert process.returncode == 0
    assert "not ComfyUI" in err
    assert (base / "output").is_dir()


def test_the_engine_says_in_json_where_it_is(shell: Shell) -> None:
    with ended(shell.start("engine", "--port", "0", "--json")) as process:
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            said += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    document = json.loads(said)
    assert document["url"].startswith("http://127.0.0.1:")
    assert (document["pid"], document["isComfyui"]) == (process.pid, False)


def test_a_port_that_is_taken_exits_2(shell: Shell, engine: EngineProcess) -> None:
    done = shell("engine", "--port", engine.url.rpartition(":")[2])
    assert done.code == 2
    assert "can't listen" in done.err
    assert "--port" in done.err


def test_a_saved_video_workflow_runs_as_the_editor_would_send_it(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the classes of ComfyUI 0.33.0, whose node list the engine serves. It has no SaveVideo to run."""
    node_list = written(tmp_path, recorded.load("object_info_0.33.0.json.gz"), "object_info.json")
    base = tmp_path / "engine"
    options = ("--object-info", node_list, "--base-directory", base)
    with ended(shell.start("engine", "--port", "0", *map(str, options))) as process:
        assert process.stdout is not None
        monkeypatch.setenv("COMFYUI_URL", process.stdout.readline().strip())
        for name in ("blue_poppies_field.png", "woman_in_wheat_field.mp4"):  # inputs of the second
            (base / "input" / name).write_bytes(b"\0")
        for name in ("api_kling_o3_t2v", "api_beeble_switchx_video_edit"):
            saved = recorded.template(name)
            ran = shell("run", written(tmp_path, saved), "--json", "--quiet")
            assert (ran.code, ran.json["failure"]["kind"]) == (7, "validation")
            assert "can't run" in ran.json["error"]
            kept = shell("graph", ran.json["workflowId"], "--json").json
            exported = recorded.load("exports_1.58.1.json.gz")[name]
            assert "SaveVideo" in {node["class_type"] for node in exported.values()}
            assert list(recorded.differences(kept["graph"], exported, recorded.node_list())) == []
            assert kept["file"] == saved
            assert "Partner nodes, which cost Comfy credits" in ran.err
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b"\xff", None])
def test_a_node_list_that_is_none_exits_2(shell: Shell, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "list.json"
    if content is not None:
        file.write_bytes(content)
    done = shell("engine", "--port", "0", "--object-info", file)
    assert done.code == 2
    assert "list.json" in done.err or "GET /object_info" in done.err


def test_mcp_serves_metrics_beside_its_pipe(shell: Shell) -> None:
    command = [WARM_PYTHON, "-m", "comfy_mcp", "mcp", "--metrics-port", "0"]
    pipe = subprocess.PIPE
    running = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, text=True)
    with ended(running) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        served = next(line for line in map(json.loads, process.stderr) if line["event"] == "metrics_served")
        with urllib.request.urlopen(
            f"http://{served['host']}:{served['port']}/metrics", timeout=30
        ) as answer:
            text = answer.read().decode()
        out, _ = process.communicate(timeout=60)
    assert "comfyui_queue_length" in text
    assert (process.returncode, out) == (0, "")


def test_mcp_ends_with_its_client_and_prints_nothing_of_its_own(shell: Shell) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "comfy_mcp", "mcp"],
        input="",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_mcp_on_a_terminal_says_what_it_is_for(shell: Shell) -> None:
    terminal, stdin = os.openpty()
    command = [sys.executable, "-m", "comfy_mcp", "mcp"]
    streams = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **streams) as process:  # type: ignore[call-overload]
        os.close(stdin)
        os.write(terminal, b"\x04")
        out, err = process.communicate(timeout=60)
    os.close(terminal)
    assert (process.returncode, out) == (0, "")
    assert err.startswith("MCP on stdin and stdout: an agent starts this command.")


def test_mcp_answers_initialize_on_stdout_and_logs_on_stderr(shell: Shell) -> None:
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    with ended(
        subprocess.Popen(
            [sys.executable, "-m", "comfy_mcp", "--log-level", "debug", "mcp", "--protocol", "legacy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        out, err = process.communicate(timeout=60)
    assert answer["result"]["protocolVersion"] == "2025-11-25"
    assert out == ""
    assert process.returncode == 0
    assert "mcp_stops" in err


def test_the_sidecar_prints_its_url_serves_and_drains_on_sigterm(shell: Shell) -> None:
    with ended(shell.start("serve", "--port", "0")) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/health", timeout=30) as answer:
            health = json.load(answer)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert health["status"] == "healthy"
    assert (process.returncode, out) == (0, "")
    assert "http_drains" in err


def test_the_sidecar_opens_no_door_without_a_key(shell: Shell) -> None:
    done = shell("serve", "--port", "0", "--host", "0.0.0.0")
    assert done.code == 2
    assert "loopback only" in done.err
    assert "keys add" in done.err


def test_the_sidecar_says_that_its_port_is_taken(shell: Shell, engine: EngineProcess) -> None:
    done = shell("serve", "--port", engine.url.rpartition(":")[2])
    assert done.code == 2
    assert "--port" in done.err


def test_the_sidecar_opens_with_a_key(shell: Shell) -> None:
    shell("keys", "add", "agent")
    with ended(shell.start("serve", "--port", "0", "--host", "0.0.0.0")) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip().rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_sidecar_serves_mcp_on_stdio_too_and_ends_with_it(shell: Shell) -> None:
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    with ended(
        subprocess.Popen(
            [WARM_PYTHON, "-m", "comfy_mcp", "serve", "--port", "0", "--also-stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        out, err = process.communicate(timeout=60)
    assert answer["result"]["serverInfo"]["name"] == "comfy-mcp-bridge"
    assert (process.returncode, out) == (0, "")
    assert "http_drains" in err
