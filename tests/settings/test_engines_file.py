"""engines.toml: each engine with settings of its own, and no secret in any message."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.logs import secret_values
from comfy_mcp.settings import load_settings
from comfy_mcp.settings.engines_file import add_engine, engines_in, remove_engine

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
        ("[a", "is not TOML"),
        ('a = "s3cret"', "a: it must be a table"),
        ('[a]\nurl = "http://a:1"\npassword = "s3cret"', "a.password: there is no such setting of an engine"),
        ('[a]\nlabels = ["s3cret"]', "a.url: it is required"),
        ('[a]\nurl = "s3cret"', "The URL of the engine a can't be used"),
        ('[a]\nurl = "http://a:1"\nws_url = "http://s3cret"', "WebSocket URL of the engine a"),
        ('[a]\nurl = "http://a:1"\nlabels = ["s3cret, b"]', "a.labels.0"),
        ('[a]\nurl = "http://a:1"\nheaders = { "X" = "s3cret\\n" }', "a header whose name or value"),
        ('["a b"]\nurl = "http://a:1"', "a b"),
    ],
)
def test_a_mistake_is_named_and_no_value_is_shown(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(engines_file=given(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_stops_the_start(tmp_path: Path) -> None:
    settings = load_settings(engines_file=tmp_path / "none.toml")
    assert settings.engines == ()  # `comfy-bridge engines add` makes the file
    with pytest.raises(InvalidInput, match="can't be read: No such file"):
        settings.read_engines()
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe s3cret")
    assert "is not UTF-8 text" in refused(engines_file=file)


def test_the_file_and_a_url_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = given(tmp_path, FILE)
    monkeypatch.setenv("COMFYUI_URL", "http://c:1")
    assert "Unset COMFY_BRIDGE_ENGINES_FILE, or COMFYUI_URL" in refused(engines_file=file)


@pytest.mark.parametrize(
    "second",
    [
        "http://a:8188",
        "http://A:8188/",
        'http://a:8188"\nlabels = ["x"]\n#',
        'http://a:8188"\non_demand = true\nws_url = "ws://a',
    ],
)
def test_one_server_has_one_name(tmp_path: Path, second: str) -> None:
    file = given(tmp_path, f'[a]\nurl = "http://a:8188"\n[b]\nurl = "{second}"\n')
    assert "The engines a and b have the same address" in refused(engines_file=file)
    remove_engine(file, "b")  # as ever
    assert [each.id for each in load_settings(engines_file=file).engines] == ["a"]


@pytest.mark.parametrize("second", ["http://a:8188/b", "http://a:8188?token=b", "http://u:p@a:8188"])
def test_servers_behind_one_proxy_may_share_an_address(tmp_path: Path, second: str) -> None:
    file = given(tmp_path, f'[a]\nurl = "http://a:8188"\n[b]\nurl = "{second}"\n')
    assert len(load_settings(engines_file=file).engines) == 2


def test_one_server_has_one_name_among_the_urls_too() -> None:
    assert "have the same address" in refused(engine_urls="a=http://localhost:1,b=http://127.0.0.1:1/")


HAND_MADE = """# our engines
[a]
url = "http://a"
labels = [
  "x",
]  # by hand

[a.headers]
X-Team = "1"

# the second
["b.1"]
url = "http://b"
"""


def test_an_engine_comes_and_goes_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    file = given(tmp_path, HAND_MADE)
    file.chmod(0o640)
    add_engine(file, "c-d", {"url": "http://c", "headers": {"X": 'a "quoted" é'}}, dict)
    text = file.read_text(encoding="utf-8")
    assert text.startswith(HAND_MADE)
    assert [*engines_in(file)] == ["a", "b.1", "c-d"]
    assert engines_in(file)["c-d"].headers["X"].get_secret_value() == 'a "quoted" é'
    assert remove_engine(file, "a")
    assert not remove_engine(file, "a")
    assert [*engines_in(file)] == ["b.1", "c-d"]
    assert remove_engine(file, "b.1")
    assert remove_engine(file, "c-d")
    assert file.read_text(encoding="utf-8").startswith("# our engines\n")
    assert (engines_in(file), file.stat().st_mode & 0o777) == ({}, 0o640)
    assert [each.name for each in tmp_path.iterdir()] == ["engines.toml"]


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "engines.toml"
    add_engine(file, "a", {"url": "http://a", "token": "s3cret"}, dict)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('a.url = "http://a"\n', "only a person"),
        ('b = """\n[a]\n"""\n[a]\nurl = "http://a"\n', "is not valid"),
        ('[b]\nurl = """http://b\n[a]\n"""\n[a]\nurl = "http://a"\n', "only a person"),
    ],
)
def test_what_only_a_person_can_edit_stays_as_it_is(tmp_path: Path, text: str, remedy: str) -> None:
    file = given(tmp_path, text)
    with pytest.raises(InvalidInput, match=remedy):
        remove_engine(file, "a")
    assert file.read_text(encoding="utf-8") == text


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = given(tmp_path, '[a]\nurl = "http://a"\n')

    def full(*_: object) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InvalidInput, match=r"engines\.toml can't be written: No space"):
        add_engine(file, "b", {"url": "http://b"}, dict)
    assert [each.name for each in tmp_path.iterdir()] == ["engines.toml"]


def test_two_that_change_the_file_at_once_undo_nothing_of_each_other(tmp_path: Path) -> None:
    """Bridges on one file, or commands that are typed at the same time. Each opens the folder for itself, as
    processes do."""
    file, names = tmp_path / "deep" / "engines.toml", [f"gpu-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_engine(file, name, {"url": f"http://{name}:8188"}, dict), names))
        assert set(engines_in(file)) == set(names)
        assert all(pool.map(lambda name: remove_engine(file, name), names[1:]))
    assert set(engines_in(file)) == set(names[:1])
