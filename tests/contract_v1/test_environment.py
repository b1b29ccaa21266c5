"""The variables that existing compose files set."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from comfy_mcp.settings import Settings, load_settings

NAMES = [
    ("MANAGEMENT_API_PORT", "9191", "http_port", 9191),
    ("MANAGEMENT_API_HOST", "0.0.0.0", "http_host", "0.0.0.0"),
    ("MANAGEMENT_API_KEY", "k", "http_key", SecretStr("k")),
    ("COMFYUI_URL", "http://comfyui:8188", "engine_urls", ("http://comfyui:8188",)),
    ("COMFYUI_API_URL", "http://comfyui:8188", "engine_urls", ("http://comfyui:8188",)),
    ("COMFYUI_API_ENDPOINT", "http://comfyui:8188", "engine_urls", ("http://comfyui:8188",)),
    ("COMFYUI_WS_URL", "ws://comfyui:8188/ws", "ws_url", "ws://comfyui:8188/ws"),
    ("COMFYUI_OUTPUTS", "/data/out", "outputs_dir", Path("/data/out")),
    ("COMFYUI_OUTPUT_DIR", "/data/out", "outputs_dir", Path("/data/out")),
    ("COMFYUI_MODELS", "/data/models", "models_dir", Path("/data/models")),
    ("COMFYUI_MODELS_CHECKPOINTS", "/m/c", "models_checkpoints", Path("/m/c")),
    ("COMFYUI_MODELS_LORAS", "/m/l", "models_loras", Path("/m/l")),
    ("COMFYUI_MODELS_VAE", "/m/v", "models_vae", Path("/m/v")),
    ("COMFYUI_MODELS_CONTROLNET", "/m/n", "models_controlnet", Path("/m/n")),
    ("COMFYUI_MODELS_UPSCALE", "/m/u", "models_upscale", Path("/m/u")),
    ("CORS_ALLOWED_ORIGINS", "https://a.test,https://b.test", "cors_origins", ("https://a.test", "https://b.test")),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "text", "field", "value"), NAMES)
def test_every_name_of_the_contract_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: object
) -> None:
    assert getattr(load_settings(), field) != value
    monkeypatch.setenv(variable, text)
    assert getattr(load_settings(), field) == value


def test_the_port_is_9090_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().http_port == 9090


def test_the_variables_of_the_salad_lane_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files set them, with the queue or without: then there is no lane."""
    monkeypatch.setenv("SALAD_API_KEY", "k")
    monkeypatch.setenv("SALAD_ORG_NAME", "org")
    assert load_settings().lanes == ()


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass on what is not set as an empty string."""
    for variable, *_ in NAMES:
        monkeypatch.setenv(variable, "")
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    loaded = load_settings()
    assert loaded.http_port == defaults["http_port"]
    assert loaded.http_key is None
    assert loaded.engine_urls == defaults["engine_urls"]
