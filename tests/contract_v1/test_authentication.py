"""Keys: both headers, what is open without one, and whose jobs a key sees."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from tests.contract_v1.shapes import assert_problem
from tests.support.graphs import picture, slow
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

KEY = "k-1234 with a space: and a colon"
BOTH = [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}]
CLOSED = [
    ("POST", WORKFLOW),
    ("GET", f"{WORKFLOW}/some-id"),
    ("DELETE", f"{WORKFLOW}/some-id"),
    ("GET", "/v1/comfyui/models"),
    ("GET", "/v1/comfyui/outputs"),
    ("GET", "/v1/comfyui/output/some-id"),
    ("GET", "/v1/comfyui/stream"),
    ("GET", "/v1/comfyui/workflows"),
    ("GET", "/v1/status"),
    ("POST", "/mcp"),
]
OPEN = ["/health", "/ready", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/"]


@pytest.fixture
async def v1(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path, http_key=KEY) as sidecar:
        yield sidecar


@pytest.mark.parametrize("headers", BOTH)
async def test_both_headers_are_taken(v1: Sidecar, headers: dict[str, str]) -> None:
    job = await v1.submit(picture(), headers=headers)
    assert (await v1.ended(job, headers=headers))["status"] == "completed"


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"X-API-Key": "k-é".encode().decode("latin-1")},
    ],
)
async def test_a_missing_or_wrong_key_is_401(
    v1: Sidecar, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await v1(method, path, headers=headers)
    assert_problem(answer, 401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert KEY not in answer.data.decode()


@pytest.mark.parametrize("path", OPEN)
async def test_what_is_open_needs_no_key(v1: Sidecar, path: str) -> None:
    assert (await v1("GET", path)).status == 200


async def test_metrics_can_be_closed(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, http_key=KEY, metrics_public=False) as v1:
        assert_problem(await v1("GET", "/metrics"), 401, "Unauthorized")
        assert (await v1("GET", "/metrics", headers={"X-API-Key": KEY})).status == 200


async def test_a_guess_at_the_key_of_closed_metrics_counts(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, http_key=KEY, metrics_public=False, rate_limit_per_minute=3) as v1:
        guesses = [(await v1("GET", "/metrics", headers={"X-API-Key": "guess"})).status for _ in range(5)]
        assert guesses == [401, 401, 401, 429, 429]
        assert (await v1("GET", "/metrics", headers={"X-API-Key": KEY})).status == 200


async def test_closed_metrics_are_for_who_may_read_them_and_a_key_for_them_opens_nothing_else(
    tmp_path: Path,
) -> None:
    async with open_sidecar(tmp_path, metrics_public=False) as v1:
        scraper = await add_key(v1, "prometheus", Right.METRICS)
        reader = await add_key(v1, "reader", Right.READ)
        writer = await add_key(v1, "writer", Right.SUBMIT)
        for who, status in ((scraper, 200), (reader, 200), (writer, 403), ({}, 401)):
            assert (await v1("GET", "/metrics", headers=who)).status == status
        for method, path in (
            ("GET", "/v1/status"),
            ("GET", "/v1/comfyui/workflows"),
            ("GET", "/v1/comfyui/events"),
            ("GET", "/v1/comfyui/output/x"),
            ("POST", "/v1/comfyui/stream/ticket"),
            ("POST", "/v1/comfyui/workflow"),
        ):
            answer = await v1(
                method, path, headers=scraper, json={"workflow": {}} if method == "POST" else None
            )
            assert (path, answer.status) == (path, 403)


async def test_with_no_key_configured_none_is_asked_for(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        assert (await v1("GET", "/v1/status")).status == 200


async def add_key(v1: Sidecar, name: str, *rights: Right) -> dict[str, str]:
    """Its header."""
    key = ApiKey(name=name, digest=digest_of(f"key-{name}"), rights=frozenset(rights), created_at=1)
    await v1.services.store.add_key(key)
    return {"X-API-Key": f"key-{name}"}


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, dict[str, dict[str, str]]]]:
    """Two people with their own jobs, one who may only look, and one who may see everything."""
    async with open_sidecar(tmp_path) as v1:
        own = (Right.READ, Right.SUBMIT, Right.CANCEL)
        yield (
            v1,
            {
                "ann": await add_key(v1, "ann", *own),
                "bob": await add_key(v1, "bob", *own),
                "eve": await add_key(v1, "eve", Right.READ),
                "adm": await add_key(v1, "adm", *own, Right.ADMIN),
            },
        )


async def test_a_key_sees_and_cancels_its_own_jobs_only(
    people: tuple[Sidecar, dict[str, dict[str, str]]],
) -> None:
    v1, keys = people
    job = await v1.submit(slow(), headers=keys["ann"])
    for method in ("GET", "DELETE"):
        answer = await v1(method, f"{WORKFLOW}/{job}", headers=keys["bob"])
        assert_problem(answer, 404, "Not Found", f"Workflow {job} not found")
    for name, seen in (("ann", [job]), ("bob", []), ("adm", [job])):
        listed = (await v1("GET", "/v1/comfyui/workflows", headers=keys[name])).body["workflows"]
        assert [item["workflowId"] for item in listed] == seen
    answer = await v1("DELETE", f"{WORKFLOW}/{job}", headers=keys["adm"])
    assert (answer.status, answer.body["status"]) == (200, "cancelled")


async def test_another_ones_outputs_are_neither_listed_nor_served(
    people: tuple[Sidecar, dict[str, dict[str, str]]],
) -> None:
    v1, keys = people
    [output] = (await v1.ended(await v1.submit(picture(), headers=keys["ann"]), headers=keys["ann"]))[
        "outputs"
    ]
    assert (await v1("GET", output["url"], headers=keys["ann"])).status == 200
    assert_problem(await v1("GET", output["url"], headers=keys["bob"]), 404, "Not Found")
    assert (await v1("GET", "/v1/comfyui/outputs", headers=keys["bob"])).body["outputs"] == []


async def test_a_key_does_what_its_rights_say_and_no_more(
    people: tuple[Sidecar, dict[str, dict[str, str]]],
) -> None:
    v1, keys = people
    assert (await v1("GET", "/v1/comfyui/workflows", headers=keys["eve"])).status == 200
    answer = await v1("POST", WORKFLOW, json={"workflow": picture()}, headers=keys["eve"])
    assert assert_problem(answer, 403, "Forbidden")["code"] == "forbidden"
    answer = await v1("DELETE", f"{WORKFLOW}/some-id", headers=keys["eve"])
    assert_problem(answer, 403, "Forbidden")
