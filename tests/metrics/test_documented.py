"""docs/metrics.md has every metric with its type and labels, and no other."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| (.+) \|$", re.MULTILINE)
CONTRACT: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "comfyui_workflow_total": ("counter", ("status",)),
    "comfyui_workflow_duration_seconds": ("histogram", ("gpu_type",)),
    "comfyui_workflow_errors_total": ("counter", ("error_type",)),
    "comfyui_queue_length": ("gauge", ()),
    "comfyui_gpu_utilization": ("gauge", ("gpu_id",)),
    "comfyui_vram_usage_bytes": ("gauge", ("gpu_id",)),
    "http_requests_total": ("counter", ("method", "route", "status_code")),
    "http_request_duration_seconds": ("histogram", ("method", "route", "status_code")),
    "api_errors_total": ("counter", ("error_type", "route")),
    "mcp_tool_invocations_total": ("counter", ("tool_name", "status")),
    "mcp_tool_duration_seconds": ("histogram", ("tool_name",)),
}
UNBOUNDED = {"job", "job_id", "workflow_id", "prompt_id", "client", "key", "path", "url", "instance"}


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in ROW.findall(PAGE)
    }


def registered(metrics: Metrics) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(name, type, labels) of what a scrape shows, labels of metrics without a series included."""
    collectors = {
        name: collector
        for collector, names in metrics.registry._collector_to_names.items()
        if isinstance(collector, MetricWrapperBase)
        for name in names
    }
    for metric in metrics.registry.collect():
        collector = collectors.get(metric.name)
        labels = tuple(collector._labelnames) if collector is not None else ()
        yield name_of(metric), metric.type, labels


def name_of(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def test_every_metric_is_documented_as_it_is_and_no_other(metrics: Metrics) -> None:
    shown = {name: (kind, labels) for name, kind, labels in registered(metrics)}
    elsewhere = {name for name in documented() if name.startswith("process_")} - shown.keys()  # no /proc
    assert {name: row for name, row in documented().items() if name not in elsewhere} == shown


def test_the_contract_s_metrics_have_its_names_and_labels(metrics: Metrics) -> None:
    shown = {name: (kind, labels) for name, kind, labels in registered(metrics)}
    assert {name: shown.get(name) for name in CONTRACT} == dict(CONTRACT)


def test_no_label_names_something_without_a_bound(metrics: Metrics) -> None:
    labels = {label for _, _, names in registered(metrics) for label in names}
    assert labels
    assert labels & UNBOUNDED == set()


def test_every_kind_of_failure_is_named() -> None:
    (words,) = [text for name, _, _, text in ROW.findall(PAGE) if name == "comfyui_workflow_errors_total"]
    assert set(re.findall(r"`(\w+)`", words)) == {kind.value for kind in FailureKind}


def test_the_queries_use_metrics_that_exist(metrics: Metrics) -> None:
    names = {name for name, _, _ in registered(metrics)}
    queries = PAGE[PAGE.index("## Questions") :]
    used = re.findall(r"\b((?:comfyui|comfy_bridge|http|mcp|api)_[a-z_]+)\b", queries)
    assert len(used) >= 5
    assert {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in used} <= names
