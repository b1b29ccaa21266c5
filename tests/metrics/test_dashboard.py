"""The Grafana dashboard shows metrics that exist, and all of them; Prometheus understands its queries."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from comfy_mcp.metrics import Metrics
from tests.deploy.files import compose
from tests.metrics import promql
from tests.metrics.everything import happened
from tests.metrics.test_documented import registered
from tests.support.debian import program

GRAFANA = promql.ROOT / "deploy" / "grafana"
NOT_SHOWN = {"process_virtual_memory_bytes"}
"""Means little: what is reserved is not what is used."""
PROMETHEUS_ADDS = {"instance", "job"}
OF_PROMETHEUS = {"up", "ALERTS"}
EXPRESSIONS = [*promql.queries(), *((name, rule["expr"]) for name, rule in promql.rules().items())]


def labels_by_metric(metrics: Metrics) -> dict[str, set[str]]:
    """By the name of each sample: a histogram has three."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in registered(metrics):
        if kind == "histogram":
            found |= {f"{name}_{part}": {*labels} for part in ("sum", "count")}
            found[f"{name}_bucket"] = {*labels, "le"}
        else:
            found[name] = {*labels}
    return found


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_it_asks_for_metrics_and_labels_that_exist(metrics: Metrics, where: str, expression: str) -> None:
    known = labels_by_metric(metrics)
    asked = promql.selectors(expression)
    assert asked, where
    assert {each.metric for each in asked} <= known.keys() | OF_PROMETHEUS
    ours = [each for each in asked if each.metric in known]
    for selector in ours:
        assert {each.label for each in selector.matchers} <= known[selector.metric] | PROMETHEUS_ADDS
    anywhere = set().union(*(known[each.metric] for each in ours)) if ours else set()
    assert promql.grouped_by(expression) <= anywhere | PROMETHEUS_ADDS


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_its_selectors_find_series_once_everything_has_happened(
    metrics: Metrics, where: str, expression: str
) -> None:
    """A status or a kind that no series ever has would be a panel or an alert that stays empty."""
    happened(metrics)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    for selector in promql.selectors(expression):
        matchers = [each for each in selector.matchers if each.label not in PROMETHEUS_ADDS]
        found = [
            sample
            for sample in samples
            if sample.name == selector.metric and all(each.takes(sample.labels) for each in matchers)
        ]
        assert found or selector.metric in OF_PROMETHEUS, f"{where}: {selector}"


def test_every_metric_is_shown(metrics: Metrics) -> None:
    shown = {each.metric for _, expression in promql.queries() for each in promql.selectors(expression)}
    families = {re.sub(r"_bucket$", "", name) for name in shown}
    assert {name for name, _, _ in registered(metrics)} - families == NOT_SHOWN


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    """promtool has no command for a query alone; as the rule of a new series it is looked at whole."""
    rules = [
        {"record": f"query:{number}", "expr": expression}
        for number, (_, expression) in enumerate(promql.queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


def test_grafana_s_own_model_takes_all_of_it() -> None:
    """What the model does not know, a misspelt option say, would be gone from what it writes."""
    register_default_plugins()
    read = Dashboard.from_json(dict(promql.dashboard()))
    assert "\n".join(lost(promql.dashboard(), json.loads(json.dumps(read, cls=JSONEncoder)))) == ""
    assert read.panels is not None
    for panel in read.panels:  # its options are known by its type
        assert not isinstance(panel, Panel) or not isinstance(panel.options, dict), panel.title


def lost(written: Any, kept: Any, where: str = "") -> Iterator[str]:
    """Where `kept` lacks something of `written`, or has another value. It may have more: defaults."""
    match written, kept:
        case dict(), dict():
            for name, value in written.items():
                yield from lost(value, kept.get(name), f"{where}/{name}")
        case list(), list() if len(written) == len(kept):
            for number, (one, other) in enumerate(zip(written, kept, strict=True)):
                yield from lost(one, other, f"{where}/{number}")
        case _ if written != kept:
            yield f"{where}: {written!r} became {kept!r}"
        case _:
            pass


def test_every_panel_has_an_id_a_title_a_place_and_a_query_of_its_own() -> None:
    everything = promql.dashboard()["panels"]
    assert max(Counter(panel["id"] for panel in everything).values()) == 1
    for panel in promql.panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        names = [target["refId"] for target in panel["targets"]]
        assert names
        assert len(set(names)) == len(names)
    for one, other in combinations(everything, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), f"{one['title']} and {other['title']}"
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in everything)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_a_legend_names_labels_that_its_query_leaves() -> None:
    for panel in promql.panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            aggregated = re.search(r"\b(?:sum|count|max|min)\b", target["expr"]) is not None
            assert not aggregated or wanted <= promql.grouped_by(target["expr"]), panel["title"]


def test_every_variable_is_defined_and_used() -> None:
    defined = {variable["name"] for variable in promql.dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", promql.DASHBOARD.read_text(encoding="utf-8")))
    assert used == defined


def test_variables_are_filled_from_labels_that_exist(metrics: Metrics) -> None:
    known = labels_by_metric(metrics)
    filled = [each for each in promql.dashboard()["templating"]["list"] if each["type"] == "query"]
    assert {each["name"] for each in filled} == {"instance", "engine", "gpu"}
    for variable in filled:
        text = variable["query"]["query"]
        found = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", text)
        assert found is not None, text
        assert found[2] in known[found[1]] | PROMETHEUS_ADDS


def provisioned(folder: str) -> Any:
    (file,) = (GRAFANA / "provisioning" / folder).iterdir()
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert document.pop("apiVersion") == 1
    ((_, entries),) = document.items()
    (entry,) = entries
    return entry


def test_grafana_is_given_the_dashboard_and_the_prometheus_of_the_compose_file() -> None:
    mounts = dict(volume.split(":")[:2] for volume in compose()["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provisioned("dashboards")["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    source = provisioned("datasources")
    assert source["type"] == "prometheus"
    host, port = re.findall(r"http://(\w+):(\d+)", source["url"])[0]
    assert host in compose()["services"]
    assert f":{port}/" in compose()["services"][host]["healthcheck"]["test"][-1]
    interval = yaml.safe_load((promql.PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
