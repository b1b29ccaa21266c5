"""doctor: what is configured, what answers, what to fix, and no secret."""

from pathlib import Path

import pytest

from comfy_mcp import __version__
from tests.cli.conftest import NOBODY, EngineProcess, Shell, graph, written


def test_all_is_well_with_an_engine_and_a_store(shell: Shell, engine: EngineProcess, tmp_path: Path) -> None:
    done = shell("doctor", "--json")
    assert done.code == 0, done.err
    document = done.json
    (found,) = document["engines"]
    assert (found["up"], found["isComfyui"], found["url"]) == (True, False, engine.url)
    assert document["store"]["path"] == str(tmp_path / "state" / "bridge.sqlite3")
    assert document["store"]["journalMode"] in {"wal", "truncate"}
    assert document["versions"]["comfy-mcp-bridge"] == __version__
    assert {line["name"]: line["source"] for line in document["settings"]} == {
        "engine_urls": "COMFYUI_URL",
        "state_dir": "COMFY_BRIDGE_STATE_DIR",
    }


def test_people_are_told_that_the_embedded_engine_is_not_comfyui(shell: Shell) -> None:
    assert "the embedded engine, not ComfyUI" in shell("doctor").out


def test_nothing_there_exits_5_and_says_what_to_fix(shell: Shell) -> None:
    done = shell("--engine", NOBODY, "doctor")
    assert done.code == 5
    assert "DOWN" in done.out
    assert f"to fix    Start ComfyUI at {NOBODY}" in done.out
    document = shell("--engine", NOBODY, "doctor", "--json").json
    assert document["engines"][0]["up"] is False
    assert {line["name"]: line["source"] for line in document["settings"]}["engine_urls"] == "option"


def test_a_store_that_cannot_be_opened_exits_6_and_the_engines_are_asked_all_the_same(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("not a folder")
    monkeypatch.setenv("COMFY_BRIDGE_STATE_DIR", str(tmp_path / "a-file"))
    done = shell("doctor", "--json")
    assert done.code == 6
    assert done.json["store"]["error"] == "store_unavailable"
    assert done.json["engines"][0]["up"] is True
    assert "BROKEN" in shell("doctor").out
    other = shell("workflows", "--json")
    assert (other.code, other.json["error"]) == (6, "store_unavailable")


def test_a_setting_that_is_wrong_exits_2_and_names_it_without_its_value(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_BRIDGE_PIPELINE_DEPTH", "hunter22")
    done = shell("doctor", "--json")
    assert (done.code, done.json["error"]) == (2, "configuration")
    assert "PIPELINE_DEPTH" in done.err.upper()
    assert "hunter22" not in done.err + done.out


@pytest.mark.parametrize("form", [["--json"], []])
@pytest.mark.parametrize(
    ("url", "token", "named"),
    [
        ("http://me:p4ssword@127.0.0.1:9/comfy", "", ()),
        ("http://127.0.0.1:9/comfy", "t0ken-secret", ("engine_token",)),
        ("big=http://127.0.0.1:9/comfy?token=t0ken-secret", "", ()),
    ],
)
def test_secrets_are_never_shown(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    token: str,
    named: tuple[str, ...],
    form: list[str],
) -> None:
    monkeypatch.setenv("COMFYUI_URL", url)
    monkeypatch.setenv("COMFYUI_HEADERS", '{"X-Proxy-Key": "h34der-secret"}')
    monkeypatch.setenv("COMFYUI_TOKEN", token)
    done = shell("--log-level", "debug", "doctor", *form)
    assert done.code == 5
    shown = done.out + done.err
    for name in ("engine_headers", "X-Proxy-Key", *named):
        assert name in shown
    for secret in ("p4ssword", "h34der-secret", "t0ken-secret"):
        assert secret not in shown


def test_credentials_given_twice_are_a_wrong_setting(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_URL", "http://me:p4ssword@127.0.0.1:9")
    monkeypatch.setenv("COMFYUI_TOKEN", "t0ken-secret")
    done = shell("doctor", "--json")
    assert (done.code, done.json["error"]) == (2, "configuration")
    assert "COMFYUI_TOKEN" in done.json["nextStep"]


def test_the_jobs_are_counted(shell: Shell, tmp_path: Path) -> None:
    shell("submit", written(tmp_path, graph()))
    assert "jobs      1 queued" in shell("doctor").lines
