"""examples/prometheus.yml scrapes what the sidecar serves."""

import re

from aiohttp.test_utils import TestClient, TestServer

from comfy_mcp.metrics import Metrics
from comfy_mcp.settings import Settings
from http_sidecar.door.metrics import metrics_app
from tests.examples.conftest import EXAMPLES

TEXT = (EXAMPLES / "prometheus.yml").read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]


async def test_it_scrapes_the_sidecar_s_default_address_where_prometheus_looks_by_default() -> None:
    (target,) = re.findall(r'targets: \["(.+)"\]', "\n".join(LINES))
    settings = Settings.model_fields
    assert target == f"{settings['http_host'].default}:{settings['http_port'].default}"
    assert "metrics_path" not in TEXT
    metrics = Metrics(engines=[], version="0", now_ms=lambda: 0)
    async with TestClient(TestServer(metrics_app(metrics))) as client:
        assert (await client.get("/metrics")).status == 200


def test_it_is_yaml_as_far_as_it_goes() -> None:
    """Mappings and lists in two-space steps, no tabs."""
    shape = re.compile(r"( {2})*(- )?[a-z_]+:( \S.*)?")
    assert [line for line in LINES if shape.fullmatch(line) is None] == []


def test_every_setting_and_option_it_names_exists() -> None:
    assert re.findall(r"COMFY_BRIDGE_\w+", TEXT) == ["COMFY_BRIDGE_METRICS_PUBLIC"]
    assert "metrics_public" in Settings.model_fields
