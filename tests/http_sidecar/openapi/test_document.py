"""The OpenAPI document: valid, complete both ways, and its examples true."""

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.door.problems import CONTENT_TYPE, STATUS_OF
from http_sidecar.openapi import build, described, endpoints_of
from http_sidecar.openapi.operations import example_of
from http_sidecar.routes import ROUTES
from tests.http_sidecar.conftest import Http

UNLISTED = ("/docs/", "/page/", "/.well-known/", "/api/v2/")
"""Paths under these are no part of the API: the pages' own files, where MCP clients look for an
authorization server that does not exist, and Comfy API v2, whose document is Comfy's."""


async def document_of(http: Http) -> dict[str, Any]:
    async with http.get("/openapi.json") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        document: dict[str, Any] = await answer.json()
    return document


def operations_in(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def within(part: Any, whole: Any) -> bool:
    """Whether everything in `part` is in `whole`, which may say more."""
    match part, whole:
        case dict(), dict():
            return part.keys() <= whole.keys() and all(within(part[key], whole[key]) for key in part)
        case list(), list():
            return len(part) == len(whole) and all(map(within, part, whole))
        case _:
            return bool(part == whole)


async def test_the_document_is_valid_openapi_3_1(http: Http) -> None:
    document = await document_of(http)
    assert document["openapi"].startswith("3.1.")
    validate(document, cls=OpenAPIV31SpecValidator)


async def test_every_route_is_in_the_document_and_everything_in_it_is_a_route(http: Http) -> None:
    assert http.app is not None
    listed = set(operations_in(await document_of(http)))
    routed = {endpoint for endpoint in endpoints_of(http.app) if not endpoint[1].startswith(UNLISTED)}
    open_ended = {path for method, path in routed if method == "*"}
    assert {path for _, path in listed} >= open_ended
    assert {item for item in listed if item[1] not in open_ended} == {
        item for item in routed if item[1] not in open_ended
    }
    assert listed == set(described())


async def test_operations_of_the_registry_go_by_their_names() -> None:
    documented = operations_in(build(described()))
    ids = [operation["operationId"] for operation in documented.values()]
    assert len(ids) == len(set(ids))
    for route in ROUTES:
        assert documented[route.method, route.path]["operationId"] == route.operation
        assert documented[route.method, route.path]["summary"] == BY_NAME[route.operation].title


async def test_every_error_has_the_one_body_but_readiness_and_those_of_mcp_itself() -> None:
    document = build(described())
    shared = document["components"]["responses"]
    seen = 0
    for (_, path), operation in operations_in(document).items():
        for status, answer in operation["responses"].items():
            if int(status) < 400 or path in {"/ready", "/readyz", "/mcp"}:
                continue
            whole = shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            assert list(whole["content"]) == [CONTENT_TYPE]
            assert whole["content"][CONTENT_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
            seen += 1
    assert seen > 50


@pytest.mark.parametrize("name", [route.operation for route in ROUTES if not route.binary])
def test_every_json_answer_has_an_example_that_is_one(name: str) -> None:
    given = {key: value for key, value in (BY_NAME[name].example or {}).items() if key != "nextStep"}
    assert given
    assert within(given, example_of(name))


def test_the_next_steps_of_an_example_are_urls() -> None:
    shown = example_of("submit_workflow")
    assert shown is not None
    assert shown["nextStep"].startswith(f"GET /v1/comfyui/workflow/{shown['workflowId']}/wait")


@pytest.mark.parametrize("name", [item.name for item in OPERATIONS if item.only != "cli"])
def test_what_an_operation_raises_is_documented(name: str) -> None:
    document = build(described())
    shared = document["components"]["responses"]
    (found,) = [item for item in operations_in(document).values() if item["operationId"] == name]
    for code in BY_NAME[name].raises:
        answer = found["responses"][str(STATUS_OF[code].value)]
        whole = shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        assert f"`{code.value}`" in whole["description"]


async def test_the_example_of_a_submit_runs(http: Http) -> None:
    example = BY_NAME["submit_workflow"].example_call
    async with http.post("/v1/comfyui/workflow", json=example, headers={"Prefer": "wait=30"}) as answer:
        assert answer.status == 200
        state = await answer.json()
    assert (state["status"], len(state["outputs"])) == ("completed", 1)


async def test_the_example_of_an_mcp_message_is_answered(http: Http) -> None:
    message = (await document_of(http))["paths"]["/mcp"]["post"]
    headers = {item["name"]: item["example"] for item in message["parameters"] if "example" in item}
    body = message["requestBody"]["content"]["application/json"]["example"]
    accept = {"Accept": "application/json, text/event-stream"}
    async with http.post("/mcp", json=body, headers=headers | accept) as answer:
        assert answer.status == 200
        assert (await answer.json())["result"]["tools"]


async def test_the_document_is_not_sent_again_to_who_has_it(http: Http) -> None:
    async with http.get("/openapi.json") as first:
        etag = first.headers["ETag"]
    async with http.get("/openapi.json", headers={"If-None-Match": etag}) as again:
        assert again.status == 304
        assert await again.read() == b""
    async with http.get("/openapi.json", headers={"If-None-Match": '"other"'}) as other:
        assert other.status == 200


async def test_metrics_that_need_a_key_are_documented_so(services: Services, settings: Settings) -> None:
    private = settings.model_copy(update={"metrics_public": False})
    app = build_app(Bridge(services), private, keys=KeyRing(private))
    async with TestClient(TestServer(app)) as client:
        document = await document_of(client)
    assert document["paths"]["/metrics"]["get"]["security"] == [{"apiKey": []}, {"bearer": []}]
    assert build(described())["paths"]["/metrics"]["get"]["security"] == []


def test_arguments_go_by_their_names_on_the_wire_and_a_path_of_the_server_is_none() -> None:
    documented = {
        operation["operationId"]: operation for operation in operations_in(build(described())).values()
    }
    wait = {item["name"]: item for item in documented["wait_for_workflow"]["parameters"]}
    assert set(wait) == {"workflowId", "timeoutS", "until", "cancelOnDisconnect"}
    assert wait["workflowId"]["in"] == "path"
    assert wait["timeoutS"]["schema"] == {"type": "number", "minimum": 0}
    body = documented["submit_workflow"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"workflow", "priority", "gpu"} <= set(body["properties"])
    assert not {"path", "idempotencyKey", "idempotency_key"} & set(body["properties"])
    assert body["required"] == ["workflow"]


def test_the_contracts_defaults_are_documented() -> None:
    documented = {
        operation["operationId"]: operation for operation in operations_in(build(described())).values()
    }
    limits = [item for item in documented["list_outputs"]["parameters"] if item["name"] == "limit"]
    assert limits[0]["schema"]["default"] == 50
