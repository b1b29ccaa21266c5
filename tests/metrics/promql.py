"""What deploy/ asks Prometheus, and which metrics and labels that names."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "comfy-bridge.json"

VARIABLES = {"$__rate_interval": "5m", "$instance": "bridge:9090", "$engine": ".*", "$gpu": ".*"}
"""What Grafana puts in, by example."""

SELECTOR = re.compile(r"(?P<metric>\b[A-Za-z_:][\w:]*)(?:\{(?P<matchers>[^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    label: str
    operator: str
    value: str

    def takes(self, labels: Mapping[str, str]) -> bool:
        have = labels.get(self.label, "")
        equal = re.fullmatch(self.value, have) is not None if "~" in self.operator else have == self.value
        return equal != self.operator.startswith("!")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    metric: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> list[Selector]:
    """Every metric that it reads. Enough of the language for what is written here; promtool knows it all."""
    rest = GROUPING.sub(" ", expression)
    found = []
    for match in SELECTOR.finditer(rest):
        called = rest[match.end() :].lstrip().startswith("(")
        word = match["metric"] in {"and", "or", "unless", "by", "on", "ignoring", "offset"}
        inside = rest[: match.start()].count("{") > rest[: match.start()].count("}")
        duration = rest[: match.start()].endswith(("[", "offset "))
        if not (called or word or inside or duration):
            matchers = [
                Matcher(label=label, operator=operator, value=value)
                for label, operator, value in MATCHER.findall(match["matchers"] or "")
            ]
            found.append(Selector(metric=match["metric"], matchers=tuple(matchers)))
    return found


def grouped_by(expression: str) -> set[str]:
    return {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",")}


@cache
def dashboard() -> Mapping[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


@cache
def rules() -> Mapping[str, Mapping[str, Any]]:
    """Alerts by name."""
    document = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


def panels() -> list[Mapping[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """(where, expression) of all panels, with an example for each of Grafana's variables."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", filled_in(target["expr"])
    for annotation in dashboard()["annotations"]["list"]:
        yield annotation["name"], filled_in(annotation["expr"])


def filled_in(expression: str) -> str:
    for name, example in VARIABLES.items():
        expression = expression.replace(name, example)
    return expression
