"""engines.toml: each engine with settings of its own, and no secret in any message."""

from pathlib import Path

import pytest

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.logs import secret_values
from comfy_mcp.settings import load_settings

FILE = """
[big]
url = "http://gpu-1:8188/"
token = "s3cret-token"
headers = { "X-Team" = "s3cret-team", "x-all" = "own" }
outputs_dir = "~/out"
labels = ["h100", "sdxl"]

[small]
url = "https://user:s3cret-word@gpu-2"
ws_url = "wss://gpu-2:9/socket"
"""


def given(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "engines.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(**settings: object) -> str:
    with pytest.raises(InvalidInput) as error:
        load_settings(**settings)
    assert "s3cret" not in str(error.value) + error.value.next_step
    return f"{error.value} {error.value.next_step}"


def test_each_engine_has_its_own_settings_and_what_all_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("COMFY_BRIDGE_ENGINES_FILE", str(given(tmp_path, FILE)))
    settings = load_settings(engine_headers={"X-All": "shared", "X-More": "1"})
    big, small = settings.engines
    assert (big.id, big.url, big.ws_url) == ("big", "http://gpu-1:8188", "ws://gpu-1:8188/ws")
    assert big.header_values() == {
        "X-More": "1", "X-Team": "s3cret-team", "x-all": "own", "Authorization": "Bearer s3cret-token",
    }  # fmt: skip
    assert (big.labels, big.outputs_dir) == (("h100", "sdxl"), Path("/home/me/out"))
    assert (small.id, small.url, small.ws_url) == ("small", "https://gpu-2", "wss://gpu-2:9/socket")
    assert small.header_values()["X-All"] == "shared"
    assert small.header_values()["Authorization"].startswith("Basic ")
    assert "s3cret" not in repr(settings) + repr(settings.engines)
    assert {"s3cret-token", "s3cret-team"} <= set(secret_values(settings))


def test_a_token_of_all_engines_gives_way_to_one_of_its_own(tmp_path: Path) -> None:
    file = given(tmp_path, '[a]\nurl = "http://a:1"\ntoken = "own"\n[b]\nurl = "http://b:1"\n')
    engines = load_settings(engines_file=file, engine_token="shared").engines
    assert [each.header_values()["Authorization"] for each in engines] == ["Bearer own", "Bearer shared"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Dictionary should have at least 1 item"),
        ("[a", "is not TOML"),
        ('a = "s3cret"', "a: Input should be a valid dictionary"),
        ('[a]\nurl = "http://a:1"\npassword = "s3cret"', "a.password: Extra inputs are not permitted"),
        ('[a]\nlabels = ["s3cret"]', "a.url: Field required"),
        ('[a]\nurl = "s3cret"', "Engine 1 of"),
        ('[a]\nurl = "http://a:1"\nws_url = "http://s3cret"', "WebSocket URL of the engine a"),
        ('[a]\nurl = "http://a:1"\nlabels = ["s3cret, b"]', "a.labels.0"),
        ('[a]\nurl = "http://a:1"\nheaders = { "X" = "s3cret\\n" }', "a header whose name or value"),
        ('["a b"]\nurl = "http://a:1"', "a b"),
    ],
)
def test_a_mistake_is_named_and_no_value_is_shown(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(engines_file=given(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_stops_the_start(tmp_path: Path) -> None:
    assert "can't be read: No such file" in refused(engines_file=tmp_path / "none.toml")
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe s3cret")
    assert "is not UTF-8 text" in refused(engines_file=file)


def test_the_file_and_a_url_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = given(tmp_path, FILE)
    monkeypatch.setenv("COMFYUI_URL", "http://c:1")
    assert "Unset COMFY_BRIDGE_ENGINES_FILE, or COMFYUI_URL" in refused(engines_file=file)
