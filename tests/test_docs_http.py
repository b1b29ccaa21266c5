"""docs/http.md has every route, every error code with its status, and only settings that exist."""

import re
from pathlib import Path

import pytest

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.door.probes import OPEN
from http_sidecar.door.problems import STATUS_OF
from http_sidecar.openapi.document import described
from http_sidecar.routes import ROUTES, UPLOAD
from http_sidecar.streams import sse, tickets, websocket

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
CALLS = [
    *((route.method, route.path) for route in (*ROUTES, UPLOAD)),
    ("GET", sse.PATH),
    ("GET", sse.ALL_PATH),
    ("GET", websocket.PATH),
    ("POST", tickets.PATH),
    *(("GET", path) for path in sorted(OPEN)),
    ("GET", "/metrics"),
    ("POST", "/mcp"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_route_is_in_the_table(method: str, path: str) -> None:
    table = DOCUMENT.partition("## Routes")[2].partition("\n## ")[0]
    assert f"`{method} {path}`" in table


def test_every_parameter_of_a_query_is_named() -> None:
    """Those of the streams in streams.md."""
    streams = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", DOCUMENT + streams))
    declared = {
        (path, each["name"])
        for (_, path), operation in described().items()
        for each in operation.get("parameters", ())
        if each["in"] == "query"
    }
    assert ("/v1/comfyui/workflows", "tag") in declared
    assert [
        (path, name) for path, name in sorted(declared) if name not in named and "/api/v2" not in path
    ] == []


def test_every_code_is_listed_once_at_its_status() -> None:
    listed = {
        code: int(row[0])
        for row in re.findall(r"^\| (\d{3}) \| (.+) \|$", DOCUMENT, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", row[1])
    }
    assert {code.value: listed.get(code.value) for code in ErrorCode} == {
        code.value: STATUS_OF[code].value for code in ErrorCode
    }


def test_the_codes_that_only_http_has_are_listed() -> None:
    own = {
        code
        for file in (ROOT / "http_sidecar").rglob("*.py")
        for code in re.findall(r'code="(\w+)"', file.read_text(encoding="utf-8"))
    }
    assert own
    assert [code for code in sorted(own) if f"`{code}`" not in DOCUMENT] == []


@pytest.mark.parametrize("right", Right)
def test_a_right_is_explained(right: Right) -> None:
    assert f"| `{right.value}` |" in DOCUMENT


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"\b(?:COMFY_BRIDGE|MANAGEMENT_API|CORS|COMFYUI)_[A-Z_]*[A-Z]\b", DOCUMENT))
    assert len(named) > 10
    assert {name for name in named if f"`{name}`" not in SETTINGS} == set()


def test_links_lead_to_what_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", DOCUMENT)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
