"""Who may follow what: keys, tickets, subprotocols, origins, and each client's own jobs."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError

from tests.support.http_streams import STREAM, StreamClient, StreamHouse, events_path, key, open_house

TICKET = f"{STREAM}/ticket"
PROTOCOL = "comfy-bridge.v1"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def refused(house: StreamHouse, path: str = STREAM, **options: Any) -> int:
    with pytest.raises(WSServerHandshakeError) as raised:
        async with house.http.ws_connect(path, **options):
            pass
    return raised.value.status


async def client_of(house: StreamHouse, path: str = STREAM, **options: Any) -> str:
    """Whom a connection belongs to, by the job it is told of."""
    jobs = {await house.submit(client): client for client in ("alice", "bob")}
    async with house.http.ws_connect(path, **options) as ws:
        stream = StreamClient(ws, lambda: house.services.hub.seq)
        await stream.subscribe("*")
        await stream.settled()
        for job_id in jobs:
            await house.cancel(job_id)
        (told,) = await stream.settled()
    return jobs[told["workflowId"]]


def in_protocol(client: str) -> str:
    encoded = base64.urlsafe_b64encode(f"{client}-key".encode()).decode().rstrip("=")
    return f"comfy-bridge.key.{encoded}"


async def ticket_of(house: StreamHouse, client: str) -> str:
    async with house.http.post(TICKET, headers=key(client)) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        body = await response.json()
    assert set(body) == {"ticket", "expiresIn"}
    assert body["expiresIn"] == 30
    assert isinstance(body["ticket"], str)
    return body["ticket"]


# ---------------------------------------------------------------------- who


@pytest.mark.parametrize("headers", [{"X-API-Key": "bob-key"}, {"Authorization": "Bearer bob-key"}])
async def test_a_key_in_either_header_opens_the_stream(house: StreamHouse, headers: dict[str, str]) -> None:
    assert await client_of(house, headers=headers) == "bob"


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Basic bob-key"}])
async def test_without_a_good_key_nothing_opens(house: StreamHouse, headers: dict[str, str]) -> None:
    job_id = await house.submit()
    assert await refused(house, headers=headers) == 401
    for method, path in (("GET", events_path(job_id)), ("POST", TICKET), ("GET", STREAM)):
        async with house.http.request(method, path, headers=headers) as response:
            assert (response.status, (await response.json())["code"]) == (401, "unauthenticated")


async def test_a_key_as_a_subprotocol_opens_the_stream_and_is_never_logged(
    house: StreamHouse, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for protocols in ((PROTOCOL, in_protocol("bob")), (in_protocol("bob"), PROTOCOL), ("bob-key",)):
        assert await client_of(house, protocols=protocols) == "bob"
    logged = caplog.text + "".join(capsys.readouterr())
    assert "bob-key" not in logged
    assert in_protocol("bob") not in logged


async def test_the_servers_own_protocol_is_chosen_wherever_it_is_offered(house: StreamHouse) -> None:
    async with house.http.ws_connect(STREAM, protocols=(in_protocol("bob"), PROTOCOL)) as ws:
        assert ws.protocol == PROTOCOL
    async with house.http.ws_connect(STREAM, headers=key("bob")) as ws:
        assert ws.protocol is None


@pytest.mark.parametrize(
    "protocol",
    ["wrong", "comfy-bridge.key.wrong", "comfy-bridge.key._w", "comfy-bridge.key.", "comfy-bridge.ticket.x"],
)
async def test_a_wrong_key_as_a_subprotocol_opens_nothing(house: StreamHouse, protocol: str) -> None:
    assert await refused(house, protocols=(PROTOCOL, protocol)) == 401
    too_late = (*(f"p{number}" for number in range(8)), in_protocol("bob"))
    assert await refused(house, protocols=too_late) == 401


async def test_a_ticket_opens_one_stream(house: StreamHouse) -> None:
    ticket = await ticket_of(house, "bob")
    assert await client_of(house, f"{STREAM}?ticket={ticket}") == "bob"
    assert await refused(house, f"{STREAM}?ticket={ticket}") == 401
    again = await ticket_of(house, "bob")
    assert again != ticket
    assert await client_of(house, protocols=(PROTOCOL, f"comfy-bridge.ticket.{again}")) == "bob"
    assert await refused(house, protocols=(PROTOCOL, f"comfy-bridge.ticket.{again}")) == 401


async def test_a_ticket_is_good_for_the_stream_only(house: StreamHouse) -> None:
    job_id, ticket = await house.submit("bob"), await ticket_of(house, "bob")
    for path in (events_path(job_id), "/v1/comfyui/outputs", "/v1/status"):
        async with house.http.get(f"{path}?ticket={ticket}") as response:
            assert response.status == 401
    async with house.http.get(STREAM, headers={"X-API-Key": ticket}) as response:
        assert response.status == 401
    assert await client_of(house, f"{STREAM}?ticket={ticket}") == "bob"


async def test_two_who_race_for_a_ticket_do_not_both_get_in(house: StreamHouse) -> None:
    ticket = await ticket_of(house, "bob")

    async def try_it() -> bool:
        try:
            async with house.http.ws_connect(f"{STREAM}?ticket={ticket}"):
                return True
        except WSServerHandshakeError:
            return False

    async with asyncio.TaskGroup() as tasks:
        tries = [tasks.create_task(try_it()) for _ in range(5)]
    assert sum(done.result() for done in tries) == 1


async def test_a_key_without_the_right_to_read_follows_nothing(house: StreamHouse) -> None:
    job_id = await house.submit("blind")
    assert await refused(house, headers=key("blind")) == 403
    for method, path in (("GET", events_path(job_id)), ("POST", TICKET)):
        async with house.http.request(method, path, headers=key("blind")) as response:
            assert (response.status, (await response.json())["code"]) == (403, "forbidden")


# ---------------------------------------------------------------------- what


async def test_a_star_is_every_workflow_that_the_key_may_see(house: StreamHouse) -> None:
    async with house.stream("alice") as alice, house.stream("root") as root:
        await alice.subscribe("*")
        await root.subscribe("*")
        await alice.settled()
        await root.settled()
        own, other = await house.submit("alice"), await house.submit("bob")
        await house.cancel(other)
        await house.cancel(own)
        told = [(said["workflowId"], said["type"]) for said in await alice.settled()]
        assert told == [(own, "workflow:queued"), (own, "workflow:cancelled")]
        assert [said["workflowId"] for said in await root.settled()] == [own, other, other, own]


async def test_a_replay_shows_no_more_than_the_stream(house: StreamHouse) -> None:
    own, other = await house.submit("alice"), await house.submit("bob")
    for client, seen in (("alice", [own]), ("bob", [other]), ("root", [own, other])):
        async with house.stream(client) as stream:
            await stream.subscribe("*", since=0)
            assert [said["workflowId"] for said in await stream.settled()] == seen


@pytest.mark.parametrize("since", [None, 0])
async def test_anothers_workflow_is_as_unknown_as_one_that_does_not_exist(
    house: StreamHouse, since: int | None
) -> None:
    other = await house.submit("bob")
    unknown = other.replace(other[0], "0" if other[0] != "0" else "1", 1)
    async with house.stream("alice") as alice:
        said = []
        for job_id in (other, unknown):
            await alice.subscribe(job_id, since=since)
            said.append(await alice.next())
        await house.cancel(other)
        assert await alice.settled() == []
    assert [message["code"] for message in said] == ["workflow_not_found"] * 2
    assert said[0]["message"].replace(other, "") == said[1]["message"].replace(unknown, "")
    for job_id in (other, unknown):
        async with house.http.get(events_path(job_id), headers=key("alice")) as response:
            assert (response.status, (await response.json())["error"]) == (404, "Not Found")
    async with house.http.get(events_path(other), headers=key("root")) as response:
        assert response.status == 200


# ---------------------------------------------------------------------- whose page


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil.example"])
async def test_a_page_of_a_foreign_origin_gets_no_stream_even_with_a_key(tmp_path: Path, origin: str) -> None:
    async with open_house(tmp_path, cors_origins="https://app.example") as house:
        assert await refused(house, headers=key("alice"), origin=origin) == 403
        ticket = await ticket_of(house, "alice")
        assert await refused(house, f"{STREAM}?ticket={ticket}", origin=origin) == 403


async def test_a_page_that_is_allowed_gets_the_stream(tmp_path: Path) -> None:
    async with open_house(tmp_path, cors_origins="https://app.example") as house:
        own = str(house.http.make_url("")).rstrip("/")
        for origin in ("https://app.example", own):
            async with house.http.ws_connect(STREAM, headers=key("alice"), origin=origin) as ws:
                assert not ws.closed
    async with (
        open_house(tmp_path, cors_origins="*") as house,
        house.http.ws_connect(STREAM, headers=key("alice"), origin="https://any.example") as ws,
    ):
        assert not ws.closed
