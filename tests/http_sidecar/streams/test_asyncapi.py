"""The AsyncAPI document: whole in itself, and true of what the streams say."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from comfy_mcp import __version__
from http_sidecar.streams.asyncapi import asyncapi_document
from tests.support.http_streams import StreamHouse, open_house, sse_messages
from tests.support.jobs import completed, output_of_job, progressed

DOCUMENT = asyncapi_document()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(target := value.get("$ref"), str):
            yield target
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def valid(name: str, message: dict[str, Any]) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return bool(Draft202012Validator(schema).is_valid(message))


def name_of(kind: str) -> str:
    (found,) = [
        name for name, message in DOCUMENT["components"]["messages"].items() if message["name"] == kind
    ]
    assert isinstance(found, str)
    return found


async def test_it_is_served_without_a_key(house: StreamHouse) -> None:
    async with house.http.get("/asyncapi.json") as response:
        assert response.status == 200
        assert await response.json() == json.loads(json.dumps(DOCUMENT))
    assert (DOCUMENT["asyncapi"], DOCUMENT["info"]["version"]) == ("3.0.0", __version__)


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 30
    for reference in found:
        assert isinstance(resolve(reference), dict), reference


def test_every_schema_is_one_and_is_used() -> None:
    used = set(references(DOCUMENT))
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}" in used


@pytest.mark.parametrize("name", DOCUMENT["operations"])
def test_an_operation_speaks_only_messages_of_its_channel(name: str) -> None:
    operation = DOCUMENT["operations"][name]
    channel = operation["channel"]["$ref"]
    assert operation["action"] in {"send", "receive"}
    assert operation["messages"]
    for message in operation["messages"]:
        assert message["$ref"].startswith(f"{channel}/messages/")


async def test_the_addresses_are_routes(house: StreamHouse) -> None:
    routes = {route.resource.canonical for route in house.app.router.routes() if route.resource is not None}
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} <= routes


@pytest.mark.parametrize(
    ("name", "message", "good"),
    [
        ("Ping", {"type": "ping"}, True),
        ("Ping", {"type": "pong"}, False),
        ("Subscribe", {"type": "subscribe", "workflowId": "*"}, True),
        ("Subscribe", {"type": "subscribe", "workflowId": "*", "since": 3}, True),
        ("Subscribe", {"type": "subscribe", "workflow_id": "*"}, False),
        ("Subscribe", {"type": "subscribe", "workflowId": "*", "since": -3}, False),
        ("Unsubscribe", {"type": "unsubscribe"}, False),
    ],
)
def test_what_a_client_may_send(name: str, message: dict[str, Any], good: bool) -> None:
    assert valid(name, message) is good


async def test_what_the_streams_say_is_what_the_document_says(house: StreamHouse) -> None:
    job_id = await house.submit()
    async with house.stream() as client, house.sse(job_id) as response:
        await client.subscribe("*", since=0)
        said = await client.settled()
        await client.ws.send_str("?")
        said.append(await client.next())
        assert await house.claim() == job_id
        job = house.jobs[job_id]
        await house.write(job_id, progressed(job, 0.5))
        said += await client.settled()
        await house.write(job_id, completed(job, output_count=1), outputs=[output_of_job(job)])
        said += await client.settled()
        said += await sse_messages(response)
    kinds = {message["type"] for message in said}
    assert kinds == {"workflow:queued", "workflow:progress", "workflow:completed", "error"}
    for message in said:
        assert valid(name_of(message["type"]), message)
        without_place = {key: value for key, value in message.items() if key != "seq"}
        assert not valid(name_of(message["type"]), without_place)
