"""Where a setting comes from, and what becomes of credentials in an engine's URL."""

import base64

import pytest

from comfy_mcp.settings import Settings, load_settings, sources


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sources().values()):
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


def test_credentials_in_a_url_become_a_header_and_leave_the_url() -> None:
    (engine,) = load_settings(engine_urls="https://me:p%40ss@host:8443/comfy").engines
    assert (engine.url, engine.ws_url, engine.id) == (
        "https://host:8443/comfy",
        "wss://host:8443/comfy/ws",
        "host:8443/comfy",
    )
    scheme, _, coded = engine.header_values()["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(coded)) == ("Basic", b"me:p@ss")
