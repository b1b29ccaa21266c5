"""doctor --write: the change is shown, written on a yes, and never over what is not understood."""

import json
import re
from pathlib import Path

import pytest

from comfy_mcp.cli import connecting
from comfy_mcp.cli.options import CLIENTS
from comfy_mcp.settings import load_settings
from tests.cli.conftest import Shell

FILES = {
    "claude-code": ".mcp.json",
    "cursor": ".cursor/mcp.json",
    "vscode": ".vscode/mcp.json",
    "claude-desktop": "config/Claude/claude_desktop_config.json",
}


@pytest.fixture
def project(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; the desktop's settings are in its folder `config`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("COMFYUI_URL", "http://gpu-box:8188")
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/bin/{name}")
    return tmp_path


@pytest.mark.parametrize("client", CLIENTS)
def test_a_new_file_has_the_server_and_a_second_time_there_is_nothing_to_do(
    project: Path, shell: Shell, client: str
) -> None:
    done = shell("doctor", "--write", client, stdin=b"y\n")
    assert done.code == 0, done.err
    assert '+      "command"' in done.err
    written = json.loads((project / FILES[client]).read_text())
    (members,) = written.values()
    entry = members["comfyui"]
    assert entry["command"] == ("/opt/bin/comfy-bridge" if client == "claude-desktop" else "comfy-bridge")
    assert (entry["args"], entry["env"]) == (["mcp"], {"COMFYUI_URL": "http://gpu-box:8188"})
    assert list(written) == (["servers"] if client == "vscode" else ["mcpServers"])
    again = shell("doctor", "--write", client)
    assert (again.code, again.out) == (0, f"{project / FILES[client]}: comfyui is there already.\n")


def test_the_change_is_shown_in_lines_and_without_an_answer_nothing_is_written(
    project: Path, shell: Shell
) -> None:
    done = shell("doctor", "--write", "cursor", stdin=b"")
    assert (done.code, done.out) == (0, "Nothing was written.\n")
    assert '+  "mcpServers": {' in done.err.splitlines()
    assert not (project / ".cursor").exists()


def test_a_file_that_cannot_be_written_is_an_error_in_words(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    done = shell("doctor", "--write", "cursor", stdin=b"y\n")
    assert done.code == 2
    assert "mcp.json can't be written: Permission denied." in done.err
    assert "docs/clients.md" in done.err


def test_what_else_the_file_has_stays_and_a_no_writes_nothing(project: Path, shell: Shell) -> None:
    before = '{"other": [1, "é"], "mcpServers": {"mine": {"command": "x"}, "comfyui": {"command": "old"}}}'
    file = project / ".mcp.json"
    file.write_text(before, encoding="utf-8")
    file.chmod(0o640)
    assert shell("doctor", "--write", "claude-code", stdin=b"n\n").out == "Nothing was written.\n"
    assert file.read_text(encoding="utf-8") == before
    done = shell("doctor", "--write", "claude-code", "--json", stdin=b"y\n")
    assert done.json == {"path": str(file), "written": True}
    written = json.loads(file.read_text(encoding="utf-8"))
    assert (written["other"], written["mcpServers"]["mine"]) == ([1, "é"], {"command": "x"})
    assert written["mcpServers"]["comfyui"]["command"] == "comfy-bridge"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in project.iterdir() if each.name.startswith(".mcp")] == [".mcp.json"]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'// mine\n{"servers": {}}',
        b"[]",
        b'{"mcpServers": []}',
        b'{"a": 1,}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"mcpServers": {"one": {}}, "mcpServers": {"two": {}}}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": 1e400}',
        b'{"a": -1e99999999999999999999}',
        b'{"a": 0.1000000000000000055511151231257827}',
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 6000 + b"}",
        rb'{"a": "half \ud83d"}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    ],
)
def test_a_file_that_is_not_understood_is_left_as_it_is(project: Path, shell: Shell, text: bytes) -> None:
    file = project / ".mcp.json"
    file.write_bytes(text)
    done = shell("doctor", "--write", "claude-code", stdin=b"y\n")
    assert (done.code, file.read_bytes()) == (2, text)
    assert "docs/clients.md" in done.err


@pytest.mark.parametrize("in_the_way", ["folder", "file", "loop"])
def test_what_cannot_be_read_is_said_in_words(project: Path, shell: Shell, in_the_way: str) -> None:
    folder = project / ".cursor"
    match in_the_way:
        case "file":
            folder.write_text("")
        case "folder":
            (folder / "mcp.json").mkdir(parents=True)
        case _:
            folder.symlink_to(folder)
    done = shell("doctor", "--write", "cursor", stdin=b"y\n")
    assert done.code == 2
    assert re.search(r"mcp\.json can't be read: [A-Z][a-z ]+\.", done.err)
    assert "docs/clients.md" in done.err


@pytest.mark.parametrize("indent", ["  ", "    ", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_file_keeps_its_style(project: Path, shell: Shell, indent: str, end: str) -> None:
    lines = ["{", f'{indent}"a": 1.50,', f'{indent}"mcpServers": {{}}', "}", ""]
    file = project / ".mcp.json"
    file.write_bytes(end.join(lines).encode())
    done = shell("doctor", "--write", "claude-code", stdin=b"y\n")
    assert done.code == 0
    written = file.read_bytes().decode()
    assert written.split(end)[:4] == [
        "{",
        f'{indent}"a": 1.5,',
        f'{indent}"mcpServers": {{',
        f'{indent * 2}"comfyui": {{',
    ]
    assert written.count("\n") == written.count(end)


def _existing(project: Path, entry: object) -> Path:
    file = project / ".mcp.json"
    file.write_text(json.dumps({"mcpServers": {"comfyui": entry}}))
    return file


def test_what_a_person_added_to_the_server_stays(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_TOKEN", "of this shell")
    file = _existing(
        project,
        {
            "command": "/old/comfy-bridge",
            "args": ["mcp", "--protocol", "legacy"],
            "env": {"COMFYUI_URL": "http://old:8188", "COMFYUI_TOKEN": "mine"},
            "timeout": 600,
        },
    )
    done = shell("doctor", "--write", "claude-code", stdin=b"y\n")
    assert "only set here" not in done.err or "COMFYUI_TOKEN" not in done.err.split("only set here")[1]
    assert json.loads(file.read_text())["mcpServers"]["comfyui"] == {
        "command": "comfy-bridge",
        "args": ["mcp", "--protocol", "legacy"],
        "env": {"COMFYUI_URL": "http://gpu-box:8188", "COMFYUI_TOKEN": "mine"},
        "timeout": 600,
    }
    assert "there already" in shell("doctor", "--write", "claude-code").out


def test_the_address_stays_where_this_shell_names_none(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_URL")
    entry = {"command": "comfy-bridge", "args": ["mcp"], "env": {"COMFYUI_URL": "http://gpu-box:8188"}}
    _existing(project, entry)
    assert "there already" in shell("doctor", "--write", "claude-code").out


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "npx", "args": ["another", "mcp"], "env": {"TOKEN": "x"}, "timeout": 1},
        {"command": "comfy-bridge", "args": "mcp", "env": []},
        {"command": "comfy-bridge", "args": []},
        {"command": 5},
        "comfy-bridge",
        None,
    ],
)
def test_nothing_is_taken_over_from_another_program_or_a_broken_entry(
    project: Path, shell: Shell, entry: object
) -> None:
    file = _existing(project, entry)
    assert shell("doctor", "--write", "claude-code", stdin=b"y\n").code == 0
    assert json.loads(file.read_text())["mcpServers"]["comfyui"] == {
        "command": "comfy-bridge",
        "args": ["mcp"],
        "env": {"COMFYUI_URL": "http://gpu-box:8188"},
    }


def test_a_link_stays_a_link_and_an_empty_file_is_a_new_one(project: Path, shell: Shell) -> None:
    kept = project / "kept.json"
    kept.write_text("")
    (project / ".mcp.json").symlink_to(kept)
    assert shell("doctor", "--write", "claude-code", stdin=b"y\n").code == 0
    assert (project / ".mcp.json").is_symlink()
    assert "comfyui" in kept.read_text()


def test_a_file_that_changes_before_the_yes_is_not_written(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: object, **__: object) -> bool:
        (project / ".mcp.json").write_text("{}")
        return True

    monkeypatch.setattr("click.confirm", meanwhile)
    done = shell("doctor", "--write", "claude-code")
    assert done.code != 0
    assert (project / ".mcp.json").read_text() == "{}"


@pytest.mark.parametrize(
    "url",
    [
        "big=http://ann:hunter22@gpu-box:8188",
        "http://gpu-box:8188?token=hunter22",
        "http://ann:hunter22@gpu-box:8188?x=1",
        "http://small:8188,big=http://gpu-box:8188?token=hunter22",
    ],
)
def test_a_secret_in_a_url_is_not_written_and_named_as_missing(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("COMFYUI_URL", url)
    done = shell("doctor", "--write", "cursor", stdin=b"y\n")
    assert done.code == 0
    assert "hunter22" not in done.err + done.out + (project / ".cursor" / "mcp.json").read_text()
    assert re.search(r"Not written, only set here: .*COMFYUI_URL", done.err)


def test_what_only_this_shell_has_is_named(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_TOKEN", "hunter22")
    monkeypatch.setenv("COMFY_BRIDGE_MAX_QUEUED", "5")
    done = shell("doctor", "--write", "cursor", stdin=b"y\n")
    assert re.search(r"only set here: COMFYUI_TOKEN, .*COMFY_BRIDGE_MAX_QUEUED", done.err)
    assert "hunter22" not in done.err


def test_a_file_of_engines_is_named_and_no_address_written(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = project / "engines.toml"
    engines.write_text('[big]\nurl = "http://gpu-box:8188"\n')
    monkeypatch.delenv("COMFYUI_URL")
    monkeypatch.setenv("COMFY_BRIDGE_ENGINES_FILE", str(engines))
    done = shell("doctor", "--write", "cursor", stdin=b"y\n")
    assert "env" not in json.loads((project / ".cursor" / "mcp.json").read_text())["mcpServers"]["comfyui"]
    assert re.search(r"only set here: .*COMFY_BRIDGE_ENGINES_FILE", done.err)


def test_a_command_that_is_not_on_the_path_is_named_in_full(
    project: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("sys.argv", ["bin/comfy-bridge"])
    assert shell("doctor", "--write", "claude-code", stdin=b"y\n").code == 0
    entry = json.loads((project / ".mcp.json").read_text())["mcpServers"]["comfyui"]
    assert entry["command"] == str((project / "bin" / "comfy-bridge").resolve())


@pytest.mark.parametrize(
    ("platform", "folder"), [("darwin", "Library/Application Support"), ("win32", "roaming")]
)
def test_the_desktop_has_its_settings_where_the_system_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, folder: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("APPDATA", str(tmp_path / "roaming"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    path, _ = connecting._place("claude-desktop")
    assert path == tmp_path / folder / "Claude" / "claude_desktop_config.json"


def test_what_is_written_reaches_the_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(engine_urls="http://a:1,small=http://b:2")
    entry = connecting._entry(settings, "cursor")
    monkeypatch.delenv("COMFY_BRIDGE_ENGINE_URLS", raising=False)
    monkeypatch.setenv("COMFYUI_URL", entry["env"]["COMFYUI_URL"])
    assert [engine.url for engine in load_settings().engines] == ["http://a:1", "http://b:2"]
