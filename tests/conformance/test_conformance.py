"""The official conformance suite against our server factory and our transport, in both protocol eras.

With the suite's fixtures every required scenario passes; the product as shipped is held to a baseline, which
says what it does not offer.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mcp.shared.exceptions import MCPDeprecationWarning

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.runtime import open_runtime
from http_sidecar import app
from http_sidecar.api_keys import KeyRing
from http_sidecar.mcp import mount
from tests.conformance.fixtures import extend
from tests.conformance.suite import run_suite
from tests.support.mcp_surface import bridge_settings

pytestmark = [
    pytest.mark.timeout(300),
    # The fixtures ask the client as protocols up to 2025-11-25 do.
    pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.MCPDeprecationWarning"),
]

BASELINES = Path(__file__).parent


@pytest.mark.parametrize(("revision", "count"), [("2025-11-25", 30), ("2026-07-28", 37)])
async def test_every_required_scenario_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str, count: int
) -> None:
    features = [_with_fixtures if feature is mount.setup else feature for feature in app.FEATURES]
    monkeypatch.setattr(app, "FEATURES", tuple(features))
    async with _served(tmp_path) as url:
        report = await run_suite(url, revision, tmp_path / "results")

    wrong = [check for check in report.not_passed() if check.scenario in report.required]
    passed = {check.scenario for check in report.checks if check.status == "SUCCESS"}
    assert [(check.name, check.message) for check in wrong] == []
    assert set(report.required) <= passed
    assert len(report.required) == count
    assert report.exit_code == 0, report.text


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_the_product_as_shipped_differs_only_as_its_baseline_says(
    tmp_path: Path, revision: str
) -> None:
    async with _served(tmp_path) as url:
        report = await run_suite(url, revision, tmp_path / "results")

    lines = (BASELINES / f"baseline-{revision}.txt").read_text().splitlines()
    expected = [line for line in lines if line and not line.startswith("#")]
    assert sorted({check.name for check in report.not_passed()}) == sorted(expected)
    assert len(report.checks) > len(expected)


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[str]:
    """The URL of /mcp in the whole sidecar."""
    async with EmbeddedEngine(EngineConfig(base_directory=folder / "engine")) as engine:
        settings = bridge_settings(folder, engine.url, rate_limit_per_minute=0)
        async with open_runtime(settings) as services:
            whole = app.build_app(Bridge(services), settings, keys=KeyRing(settings))
            async with TestServer(whole) as server:
                yield str(server.make_url("/mcp"))


def _with_fixtures(whole: web.Application) -> None:
    mount.setup(whole, extend=extend)
