"""Which web pages may call, from a browser's point of view."""

from pathlib import Path

import pytest

from tests.contract_v1.shapes import assert_problem
from tests.support.sidecar import WORKFLOW, Answer, Sidecar, open_sidecar

APP = "https://app.example"
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,content-type"}


async def preflight(v1: Sidecar, origin: str) -> Answer:
    return await v1("OPTIONS", WORKFLOW, headers={"Origin": origin, **ASKED})


async def test_a_listed_origin_may_call_and_reads_what_it_needs(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, cors_origins=(APP,), http_key="secret") as v1:
        asked = await preflight(v1, APP)
        answer = await v1("GET", f"{WORKFLOW}/nope", headers={"Origin": APP, "X-API-Key": "secret"})
        refused = await v1("GET", f"{WORKFLOW}/nope", headers={"Origin": APP})
    assert (asked.status, asked.data) == (204, b"")
    assert asked.headers["Access-Control-Allow-Origin"] == APP
    assert "DELETE" in asked.headers["Access-Control-Allow-Methods"]
    allowed = {name.strip().lower() for name in asked.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {
        "x-api-key", "authorization", "content-type", "idempotency-key", "prefer", "range", "last-event-id"
    }  # fmt: skip
    for each in (answer, refused):
        assert each.headers["Access-Control-Allow-Origin"] == APP, "a page reads errors too"
        assert "Origin" in each.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in each.headers
        exposed = each.headers["Access-Control-Expose-Headers"]
        assert {"ETag", "Location", "Retry-After", "X-Request-ID"} <= set(exposed.split(", "))
    assert (answer.status, refused.status) == (404, 401)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{APP}.evil.example", "http://app.example"]
)
async def test_another_origin_is_told_nothing_that_lets_it_in(tmp_path: Path, origin: str) -> None:
    async with open_sidecar(tmp_path, cors_origins=(APP,), http_key="secret") as v1:
        asked = await preflight(v1, origin)
        answer = await v1("GET", f"{WORKFLOW}/nope", headers={"Origin": origin, "X-API-Key": "secret"})
    assert_problem(asked, 403, "Forbidden")
    for each in (asked, answer):
        assert "Access-Control-Allow-Origin" not in each.headers
        assert each.headers["Vary"] == "Origin", "a cache must not give it another origin's answer"


async def test_without_a_list_no_page_may_call(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, http_key="secret") as v1:
        asked = await preflight(v1, APP)
    assert_problem(asked, 403, "Forbidden")
    assert not [name for name in asked.headers if name.startswith("Access-Control-")]


async def test_a_star_lets_every_page_call_but_not_with_a_browsers_cookies(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, cors_origins=("*",), http_key="secret") as v1:
        asked = await preflight(v1, "https://anybody.example")
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in asked.headers


async def test_without_a_key_a_page_of_another_origin_can_start_nothing(tmp_path: Path) -> None:
    """A form or a simple fetch needs no preflight: being on this machine must not be enough."""
    async with open_sidecar(tmp_path) as v1:
        posted = await v1(
            "POST", WORKFLOW, data=b'{"workflow": {}}',
            headers={"Origin": "https://evil.example", "Content-Type": "text/plain"},
        )  # fmt: skip
        rebound = await v1("GET", "/v1/status", headers={"Host": "evil.example"})
        other_port = await v1("GET", "/v1/status", headers={"Origin": "http://localhost:3000"})
        picture = await v1(
            "GET", "/v1/comfyui/output/a.png",
            headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        )  # fmt: skip
        own = await v1("GET", "/v1/status", headers={"Origin": v1.url, "Sec-Fetch-Site": "same-origin"})
    for refused in (posted, rebound, other_port, picture):
        assert_problem(refused, 403, "Forbidden")
    assert own.status == 200


@pytest.mark.parametrize(
    ("origins", "policy"), [((), "same-origin"), ((APP,), "same-origin"), (("*",), "cross-origin")]
)
async def test_no_page_of_another_origin_may_embed_an_answer_unless_any_may(
    tmp_path: Path, origins: tuple[str, ...], policy: str
) -> None:
    async with open_sidecar(tmp_path, cors_origins=origins) as v1:
        for path in ("/v1/status", "/nowhere", "/health", "/"):
            assert (await v1("GET", path)).headers["Cross-Origin-Resource-Policy"] == policy
