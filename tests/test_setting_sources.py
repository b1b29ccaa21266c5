"""Where a setting comes from, and what becomes of credentials in an engine's URL."""

import base64
from pathlib import Path

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.settings import Settings, load_settings, sources, unknown_variables


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*sources().values(), *unknown_variables()):
        monkeypatch.delenv(name)


def test_settings_at_their_defaults_have_no_source() -> None:
    assert sources() == {}


def test_the_source_is_the_variable_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_API_URL", "http://second:1")
    monkeypatch.setenv("COMFYUI_URL", "http://first:1")
    monkeypatch.setenv("comfy_bridge_client_name", "me")
    monkeypatch.setenv("COMFYUI_OUTPUTS", "")
    assert sources() == {"engine_urls": "COMFYUI_URL", "client_name": "comfy_bridge_client_name"}
    assert load_settings().engine_urls == ("http://first:1",)


def test_every_setting_can_have_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"COMFY_BRIDGE_{name.upper()}", "1")
    assert set(sources()) == set(Settings.model_fields)


def test_a_variable_that_sets_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_variables() == []
    monkeypatch.setenv("comfy_bridge_max_qeued", "5")
    monkeypatch.setenv("COMFY_BRIDGE_MAX_QUEUED", "5")
    monkeypatch.setenv("COMFY_BRIDGE_STREAM_BUFFER", "")
    assert unknown_variables() == ["COMFY_BRIDGE_STREAM_BUFFER", "comfy_bridge_max_qeued"]


def test_credentials_in_a_url_become_a_header_and_leave_the_url() -> None:
    (engine,) = load_settings(engine_urls="https://me:p%40ss@host:8443/comfy").engines
    assert (engine.url, engine.ws_url, engine.id) == (
        "https://host:8443/comfy",
        "wss://host:8443/comfy/ws",
        "host:8443/comfy",
    )
    scheme, _, coded = engine.header_values()["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(coded)) == ("Basic", b"me:p@ss")


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMFY_BRIDGE_SECRETS_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["comfy_bridge_http_key", "COMFY_BRIDGE_HTTP_KEY", "management_api_key"])
def test_a_secret_comes_from_a_file_that_is_named_like_its_variable(secrets: Path, name: str) -> None:
    (secrets / name).write_text("the-key\n", encoding="utf-8")
    (secrets / "another_programs_key").write_bytes(b"\xff")
    settings = load_settings()
    assert settings.http_key is not None
    assert settings.http_key.get_secret_value() == "the-key", "without the newline that editors add"
    assert sources()["http_key"] == str(secrets / name)


def test_a_variable_counts_before_a_file_and_an_empty_file_is_none(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "comfy_bridge_engine_urls").write_text("http://file:1", encoding="utf-8")
    (secrets / "comfy_bridge_http_key").write_text("\n", encoding="utf-8")
    monkeypatch.setenv("COMFYUI_URL", "http://variable:1")
    settings = load_settings()
    assert (settings.engine_urls, settings.http_key) == (("http://variable:1",), None)
    assert sources() == {"secrets_dir": "COMFY_BRIDGE_SECRETS_DIR", "engine_urls": "COMFYUI_URL"}


def test_a_link_counts_that_stays_in_the_folder_as_those_of_kubernetes_do(
    secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (secrets / "..data").mkdir()
    outside = tmp_path_factory.mktemp("outside")
    for folder, name in ((secrets / "..data", "comfy_bridge_http_key"), (outside, "comfyui_token")):
        (folder / name).write_text(name, encoding="utf-8")
        (secrets / name).symlink_to(folder / name)
    settings = load_settings()
    assert settings.http_key is not None
    assert settings.http_key.get_secret_value() == "comfy_bridge_http_key"
    assert settings.engine_token is None
    assert sources().keys() == {"secrets_dir", "http_key"}


def refusal() -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load_settings()
    assert caught.value.code is ErrorCode.CONFIGURATION
    return caught.value


def test_a_folder_of_secrets_that_is_not_there_stops_the_start(secrets: Path) -> None:
    secrets.rmdir()
    assert "COMFY_BRIDGE_SECRETS_DIR" in refusal().message


def test_a_secret_that_is_no_text_stops_the_start_and_is_not_shown(secrets: Path) -> None:
    (secrets / "comfy_bridge_http_key").write_bytes(b"\xff\xfesecret")
    message = refusal().message
    assert "http_key" in message
    assert "secret\\" not in message
    assert "0xff" not in message


def test_a_secret_that_may_not_be_read_stops_the_start(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the refusal is the file system's answer played back."""
    (secrets / "comfy_bridge_http_key").write_text("the-key", encoding="utf-8")

    def refuse(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    error = refusal()
    assert "Permission denied" in error.message
    assert "comfy_bridge_http_key" in error.message
    assert "COMFY_BRIDGE_SECRETS_DIR" in error.next_step
