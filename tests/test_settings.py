"""Settings as people write them: names, spellings, mistakes."""

import os
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.settings import PREFIX, Settings, load_settings, sources

FOREIGN = ("COMFYUI_", "MANAGEMENT_", "SALAD_")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith((PREFIX, *FOREIGN)):
            monkeypatch.delenv(name)


def refused(**overrides: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load_settings(**overrides)
    assert caught.value.code is ErrorCode.CONFIGURATION
    assert caught.value.next_step
    return caught.value


def test_without_any_setting_there_is_one_local_engine() -> None:
    (engine,) = load_settings().engines
    assert (engine.id, engine.url) == ("127.0.0.1:8188", "http://127.0.0.1:8188")
    assert engine.ws_url == "ws://127.0.0.1:8188/ws"
    assert engine.header_values() == {}


def test_the_defaults_are_those_that_the_documents_promise(tmp_path: Path) -> None:
    settings = load_settings(state_dir=tmp_path)
    assert settings.max_graph_bytes == 4 * 2**20
    assert (settings.retention_days, settings.retention_jobs) == (30, 10_000)
    assert settings.store_path == tmp_path / "bridge.sqlite3"
    assert settings.model_folders == {}


@pytest.mark.parametrize(
    "name",
    ["COMFY_BRIDGE_ENGINE_URLS", "COMFYUI_URL", "COMFYUI_API_URL", "COMFYUI_API_ENDPOINT", "comfyui_url"],
)
def test_every_name_of_the_engines_url_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://comfyui:8188/")
    (engine,) = load_settings().engines
    assert (engine.url, engine.id) == ("http://comfyui:8188", "comfyui:8188")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("COMFYUI_OUTPUTS", "outputs_dir"),
        ("COMFYUI_OUTPUT_DIR", "outputs_dir"),
        ("COMFY_BRIDGE_OUTPUTS_DIR", "outputs_dir"),
        ("COMFYUI_MODELS", "models_dir"),
        ("COMFY_BRIDGE_STATE_DIR", "state_dir"),
        ("COMFYUI_MODELS_UPSCALE", "models_upscale"),
    ],
)
def test_folders_come_by_their_old_and_new_names(
    name: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/srv/data")
    assert getattr(load_settings(), field) == Path("/srv/data")


def test_the_five_model_folders_are_keyed_by_the_contracts_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CHECKPOINTS", "LORAS", "VAE", "CONTROLNET", "UPSCALE"):
        monkeypatch.setenv(f"COMFYUI_MODELS_{kind}", f"/m/{kind.lower()}")
    assert load_settings().model_folders == {
        kind: Path("/m") / kind for kind in ("checkpoints", "loras", "vae", "controlnet", "upscale")
    }


def test_the_own_name_goes_before_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_URL", "http://old:1")
    monkeypatch.setenv("COMFY_BRIDGE_ENGINE_URLS", "http://new:1")
    assert load_settings().engines[0].url == "http://new:1"
    assert sources()["engine_urls"] == "COMFY_BRIDGE_ENGINE_URLS"


def test_where_a_setting_comes_from_is_told_for_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources() == {}
    monkeypatch.setenv("COMFYUI_TOKEN", "s3cret")
    monkeypatch.setenv("COMFY_BRIDGE_LOG_LEVEL", "")
    assert sources() == {"engine_token": "COMFYUI_TOKEN"}


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_URL", "")
    monkeypatch.setenv("COMFY_BRIDGE_MAX_QUEUED", "")
    assert load_settings() == Settings()


def test_a_value_given_in_code_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_URL", "http://env:1")
    assert load_settings(engine_urls="http://code:1").engines[0].url == "http://code:1"


@pytest.mark.parametrize(
    "home_name",
    ["COMFY_BRIDGE_STATE_DIR", "COMFYUI_MODELS_VAE", "COMFY_BRIDGE_WORKFLOW_ROOTS", "COMFY_BRIDGE_WORKFLOWS"],
)
def test_a_tilde_is_the_home_folder(home_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(home_name, "~/data")
    settings = load_settings()
    assert tmp_path / "data" in (
        settings.state_dir,
        settings.models_vae,
        settings.workflows,
        *settings.workflow_roots,
    )


def test_workflow_roots_are_separated_like_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFY_BRIDGE_WORKFLOW_ROOTS", "/a::/b c")
    assert load_settings().workflow_roots == (Path("/a"), Path("/b c"))
    assert load_settings(workflow_roots=[Path("/x")]).workflow_roots == (Path("/x"),)


# ---------------------------------------------------------------------- engines


def test_several_engines_with_and_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_URL", "big = http://gpu-1:8188 , http://gpu-2:8188/comfy/,https://x.example,")
    engines = load_settings().engines
    assert [engine.id for engine in engines] == ["big", "gpu-2:8188/comfy", "x.example:443"]
    assert [engine.ws_url for engine in engines] == [
        "ws://gpu-1:8188/ws",
        "ws://gpu-2:8188/comfy/ws",
        "wss://x.example/ws",
    ]


@pytest.mark.parametrize(
    "url", ["http://LOCALHOST:8188", "http://127.0.0.1:8188/", "http://me:pw@localhost:8188"]
)
def test_every_spelling_of_one_address_is_one_engine(url: str) -> None:
    assert load_settings(engine_urls=url).engines[0].id == "127.0.0.1:8188"


def test_the_same_engine_twice_is_refused() -> None:
    assert "same name or address" in refused(engine_urls="http://localhost:1,http://127.0.0.1:1").message
    assert "same name or address" in refused(engine_urls="a=http://x:1,a=http://y:1").message


@pytest.mark.parametrize(
    "url",
    [
        "comfyui:8188",
        "ftp://user:hunter2@host",
        "http://",
        "http://user:hunter2@",
        "http://host:hunter2",
        "http://host:99999",
        "http://[::1",
        "http://host/#hunter2",
        "=http://host",
        "name=hunter2",
        "http://good:1,hunter2",
    ],
)
def test_what_is_no_url_is_refused_and_never_shown(url: str) -> None:
    error = refused(engine_urls=url)
    assert "not the URL of a ComfyUI server" in error.message
    assert "hunter2" not in f"{error} {error.details}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("COMFYUI_HEADERS", "x"), ("COMFY_BRIDGE_LOG_LEVEL", "loud"), ("comfy_bridge_max_queued", "many")],
)
def test_a_setting_at_fault_is_named_by_the_variable_that_set_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    message = refused().message
    assert message.startswith(f"The configuration is not valid: {variable}: ")
    assert "Value error" not in message
    assert refused(max_queued="many", log_level="loud", engine_headers="x").message.count("COMFY") == 0


def test_the_engine_at_fault_is_counted() -> None:
    assert refused(engine_urls="http://good:1,bad").message.startswith("Engine 2 ")


def test_a_websocket_url_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_WS_URL", "wss://edge.example/socket")
    assert load_settings().engines[0].ws_url == "wss://edge.example/socket"


@pytest.mark.parametrize("url", ["http://host/ws", "hunter2", "ws://"])
def test_a_websocket_url_that_is_none_is_refused_and_never_shown(url: str) -> None:
    assert "hunter2" not in str(refused(ws_url=url))


def test_one_websocket_url_for_two_engines_is_refused() -> None:
    assert "single engine" in str(refused(engine_urls="http://a:1,http://b:1", ws_url="ws://a:1/ws"))


# ---------------------------------------------------------------------- headers and secrets


@pytest.mark.parametrize(
    "text",
    [
        '{"X-Key": "s3cret", "X-Other": "a: b"}',
        ' {"X-Key":"s3cret","X-Other":"a: b"} ',
        "X-Key: s3cret\nX-Other: a: b",
        "\r\nX-Key:s3cret\r\n\r\n  X-Other :  a: b  \r\n",
    ],
)
def test_headers_come_as_json_or_as_lines(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_HEADERS", text)
    settings = load_settings()
    assert settings.engines[0].header_values() == {"X-Key": "s3cret", "X-Other": "a: b"}
    assert "s3cret" not in repr(settings) + repr(settings.engines) + str(settings)


def test_every_engine_gets_the_headers() -> None:
    engines = load_settings(engine_urls="http://a:1,http://b:1", engine_headers={"X": "1"}).engines
    assert [engine.header_values() for engine in engines] == [{"X": "1"}, {"X": "1"}]


def test_a_token_becomes_the_authorization_whatever_else_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_TOKEN", "s3cret\n")
    monkeypatch.setenv("COMFYUI_HEADERS", "authorization: Basic x\nX: 1")
    settings = load_settings()
    assert settings.engines[0].header_values() == {"Authorization": "Bearer s3cret", "X": "1"}
    assert "s3cret" not in repr(settings) + repr(settings.engines)


def test_credentials_in_the_url_and_a_token_are_one_too_many() -> None:
    error = refused(engine_urls="http://me:hunter2@host", engine_token="hunter2")
    assert "Keep one of them" in error.next_step
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        '{"X": "hunter2"',
        '{"X": {"hunter2": 1}}',
        '{"X": 5, "hunter2": "a"}',
        "X hunter2",
        "X: 1\nhunter2",
        "X Y: hunter2",
        ": hunter2",
        '{"X": "hunter2\\r\\nInjected: 1"}',
    ],
)
def test_headers_that_are_none_are_refused_and_never_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_HEADERS", text)
    error = refused()
    assert "COMFYUI_HEADERS" in error.message or "ENGINE_HEADERS" in error.message
    assert "hunter2" not in f"{error} {error.details}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMFY_BRIDGE_MAX_QUEUED", "hunter2"),
        ("COMFY_BRIDGE_MAX_QUEUED", "0"),
        ("COMFY_BRIDGE_CONNECT_TIMEOUT_S", "-1"),
        ("COMFY_BRIDGE_REQUEST_TIMEOUT_S", "inf"),
        ("COMFY_BRIDGE_LEASE_TTL_S", "nan"),
        ("COMFY_BRIDGE_LOG_LEVEL", "hunter2"),
        ("COMFY_BRIDGE_STORE_SYNCHRONOUS", "off"),
        ("COMFY_BRIDGE_FORCE_POLLING", "hunter2"),
    ],
)
def test_a_bad_value_names_its_setting_and_is_never_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    error = refused()
    assert name.removeprefix(PREFIX) in error.message.upper()
    assert "hunter2" not in f"{error} {error.details}"


def test_a_name_given_in_code_that_is_no_setting_is_an_error() -> None:
    with pytest.raises(TypeError, match="no settings: lease_ttl"):
        load_settings(lease_ttl=30.0)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().client_name = "other"  # type: ignore[misc]


def test_point_14_no_limit_is_as_short_as_a_pause_of_comfyui() -> None:
    """Its loop stands still for up to 0.8 s after a run. A pong has a quarter of a request's time."""
    settings = Settings()
    limits = [settings.connect_timeout_s, settings.request_timeout_s, settings.request_timeout_s / 4]
    assert min(limits) > 2 * 0.8


@pytest.mark.parametrize(
    ("given", "anna", "ben"),
    [
        ("comfyui-0123456789", "comfyui-0123456789", "comfyui-0123456789"),
        ('{"anna": "comfyui-aaaaaaaa", "*": "comfyui-00000000"}', "comfyui-aaaaaaaa", "comfyui-00000000"),
        ('{"anna": "comfyui-aaaaaaaa"}', "comfyui-aaaaaaaa", None),
        ({}, None, None),
    ],
)
def test_a_comfy_key_is_a_clients_own_or_that_of_all(given: Any, anna: str | None, ben: str | None) -> None:
    settings = load_settings(comfy_org_api_key=given)
    assert (settings.comfy_org_key_of("anna"), settings.comfy_org_key_of("ben")) == (anna, ben)


@pytest.mark.parametrize("value", ["short", "comfyui 12345678", 'comfyui-"1234567', "{", '{"anna": 3}', "[]"])
def test_a_comfy_key_that_is_none_is_refused_and_never_shown(value: str) -> None:
    error = refused(comfy_org_api_key=value)
    assert "comfy_org" in str(error).lower()
    assert "12345678" not in f"{error} {error.details}"


@pytest.mark.parametrize(
    "url", ["host.example", "ftp://host.example", "https://", "https://h/?a=b", "https://h/#a"]
)
def test_a_public_url_is_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFY_BRIDGE_PUBLIC_URL", url)
    with pytest.raises(InvalidInput, match="PUBLIC_URL"):
        load_settings()
    monkeypatch.setenv("COMFY_BRIDGE_PUBLIC_URL", "https://host.example/a/")
    assert load_settings().public_url == "https://host.example/a"
