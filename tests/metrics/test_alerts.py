"""deploy/prometheus: Prometheus takes the files, every alert fires when it should, and says what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.metrics import Format, Metrics
from http_sidecar.door.probes import PROBES
from tests.deploy.files import compose
from tests.metrics import promql
from tests.metrics.everything import happened
from tests.support.debian import program

UNIT_TESTS = Path(__file__).with_name("alerts_test.yml")
PAGE = (promql.ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
SEVERITIES = {"critical", "warning", "info"}
FAILURES = "comfyui_workflow_errors_total"


def promtool(*arguments: str | Path, stdin: bytes | None = None) -> str:
    """What it printed; it found nothing wrong."""
    done = subprocess.run([program("promtool"), *arguments], input=stdin, capture_output=True, check=False)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def test_prometheus_takes_the_rules() -> None:
    printed = promtool("check", "rules", promql.PROMETHEUS / "alerts.yml")
    assert f"SUCCESS: {len(promql.rules())} rules found" in printed


def test_prometheus_takes_the_configuration_where_there_is_a_key(tmp_path: Path) -> None:
    folder = shutil.copytree(promql.PROMETHEUS, tmp_path / "prometheus")
    file = folder / "prometheus.yml"
    key = tmp_path / "key"
    text = file.read_text()
    (asked_for,) = re.findall(r"credentials_file: (\S+)", text)
    file.write_text(text.replace(asked_for, str(key)))
    with pytest.raises(AssertionError, match="no such file"):
        promtool("check", "config", file)
    key.write_text("secret")
    assert "is valid prometheus config file syntax" in promtool("check", "config", file)


def test_prometheus_finds_no_fault_with_our_metrics(metrics: Metrics) -> None:
    happened(metrics)
    assert promtool("check", "metrics", stdin=metrics.render(Format.TEXT)[0]) == ""


def test_every_alert_fires_when_it_should_and_not_before_nor_for_others() -> None:
    assert "SUCCESS" in promtool("test", "rules", UNIT_TESTS)


@pytest.mark.parametrize("alert", promql.rules())
def test_every_alert_has_such_a_test(alert: str) -> None:
    document: dict[str, Any] = yaml.safe_load(UNIT_TESTS.read_text())
    (test,) = [each for each in document["tests"] if each["name"] == alert]
    expected = [each.get("exp_samples", []) for each in test["promql_expr_test"]]
    assert all(
        f'alertname="{alert}", alertstate="firing"' in each["expr"] for each in test["promql_expr_test"]
    )
    assert expected[0] == []
    assert expected[-1] != []


@pytest.mark.parametrize(("alert", "rule"), promql.rules().items())
def test_every_alert_says_what_is_wrong_and_what_to_do(alert: str, rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"]["severity"] in SEVERITIES
    summary, advice = rule["annotations"]["summary"], rule["annotations"]["description"]
    assert summary.endswith(".")
    assert len(advice) > 80
    named = set(re.findall(r"\$labels\.(\w+)", summary + advice)) - {"instance", "job"}
    rest = promql.grouped_by(rule["expr"])
    assert named <= rest or "sum by" not in rule["expr"]


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_has_its_alert(kind: FailureKind) -> None:
    matchers = [
        matcher
        for rule in promql.rules().values()
        for selector in promql.selectors(rule["expr"])
        if selector.metric == FAILURES
        for matcher in selector.matchers
    ]
    assert sum(matcher.takes({"error_type": kind.value}) for matcher in matchers) == 1


def test_probes_count_neither_as_requests_nor_as_errors() -> None:
    rule = promql.rules()["ComfyBridgeHttpErrors"]
    for selector in promql.selectors(rule["expr"]):
        (left_out,) = [each.value for each in selector.matchers if each.label == "route"]
        found = re.fullmatch(r"/\((.+)\)", left_out)
        assert found is not None
        assert {f"/{name}" for name in found[1].split("|")} == {*PROBES, "/metrics"}


def test_every_alert_is_documented_with_its_severity_and_no_other() -> None:
    rows = re.findall(r"^\| `(Comfy\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert dict(rows) == {name: rule["labels"]["severity"] for name, rule in promql.rules().items()}
    assert len(rows) == len(promql.rules())


def test_prometheus_scrapes_the_bridge_of_the_compose_file_with_its_key() -> None:
    config = yaml.safe_load((promql.PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    ((target,),) = [each["targets"] for each in scrape["static_configs"]]
    host, _, port = target.partition(":")
    services = compose()["services"]
    assert services[host]["environment"]["COMFY_BRIDGE_HTTP_PORT"] == port
    secret = scrape["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert services["prometheus"]["secrets"] == [secret]
    assert secret not in services[host]["secrets"], "a key of the store: comfy-bridge keys add"
    assert f'up{{job="{scrape["job_name"]}"}}' in promql.rules()["ComfyBridgeDown"]["expr"]
    assert "./prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    assert config["rule_files"] == ["alerts.yml", "scaling.yml"]


def test_the_engines_that_are_wanted_are_the_work_that_waits_over_the_time_it_may_wait() -> None:
    promtool("check", "rules", promql.PROMETHEUS / "scaling.yml")
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).with_name("scaling_test.yml"))
