"""Schemathesis on the live document: no server error, no undocumented answer, no broken schema.

It sends what the document allows and what it forbids, follows its links, and leaves the key out.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from comfy_mcp.operations import following
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.bounds import Bounds
from http_sidecar.process.runner import Runner

CONFIG = Path(__file__).with_name("schemathesis.toml")
KEY = "the-key-of-this-test"
SEED = 20261124
EXAMPLES = 60
PHASES = ("Examples", "Coverage", "Fuzzing", "Stateful")
LIMIT_S = 500.0
"""Only ends a run that hangs; one takes about 20 s."""


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With a key, so that its absence can be tried; and waits that are short."""
    monkeypatch.setattr(following, "WAIT_DEFAULT_S", 0.1)
    monkeypatch.setattr(following, "WAIT_MAX_S", 0.1)
    return settings.model_copy(
        update={
            "http_key": SecretStr(KEY),
        }
    )


@pytest.fixture
async def url(services: Services, settings: Settings) -> AsyncIterator[str]:
    """The whole application behind the product's own runner."""
    app = build_app(Bridge(services), settings, keys=KeyRing(settings), bounds=Bounds(prefer_wait_s=1.0))
    runner = Runner(app, send_timeout_s=Bounds().send_timeout_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.timeout(600)  # seconds where nothing else runs, minutes on a machine that is busy
async def test_the_service_does_what_its_document_says_and_nothing_else(url: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json",
        "--header", f"X-API-Key: {KEY}", "--seed", str(SEED), "--max-examples", str(EXAMPLES),
        "--request-timeout", "20", "--continue-on-failure", "--warnings", "off", "--no-color",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode(errors="replace")
    assert process.returncode == 0, said
    for phase in PHASES:
        assert f"✅ {phase}" in said.rpartition("Test Phases:")[2], said
