"""Resource notifications: to both eras, the final one always, and which event changes what."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, cast

from mcp.client import Client
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.client.subscriptions import Subscription as Stream
from mcp_types import TextResourceContents

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import JobEvent, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import JobQuery
from comfy_mcp.domain.transitions import queued as queued_job
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed import Feed, Hub, Subscription
from comfy_mcp.operations.services import Services
from comfy_mcp.server.notifications import QUEUE, RESOURCE_LIST, WORKFLOWS, note_events, publish_events
from comfy_mcp.server.pacing import Pacing
from comfy_mcp.store import Store
from tests.support import jobs
from tests.support.held import held
from tests.support.mcp_surface import (
    LIMIT_S,
    Heard,
    background,
    open_surface,
    slow_graph,
    submit,
    subscribe,
    unsubscribe,
)


async def status_of(client: Client, uri: str) -> str:
    contents = (await client.read_resource(uri, cache_mode="bypass")).contents[0]
    assert isinstance(contents, TextResourceContents)
    return str(json.loads(contents.text)["status"])


async def follow_legacy(client: Client, heard: Heard, uri: str) -> list[str]:
    """What a client reads after each notification, until it reads a final state."""
    seen: list[str] = []
    while not seen or seen[-1] in {"queued", "running"}:
        assert await heard.next_update() == uri
        seen.append(await status_of(client, uri))
    return seen


async def follow_modern(client: Client, stream: Stream, uri: str) -> list[str]:
    seen: list[str] = []
    async with asyncio.timeout(LIMIT_S):
        async for event in stream:
            if event == ResourceUpdated(uri=uri):
                seen.append(await status_of(client, uri))
                if seen[-1] not in {"queued", "running"}:
                    break
    return seen


async def test_a_legacy_subscriber_hears_of_the_job_up_to_its_end(tmp_path: Path) -> None:
    heard = Heard()
    async with open_surface(tmp_path) as surface, surface.client("legacy", message_handler=heard) as client:
        with held() as go_on:
            workflow_id = await submit(client, slow_graph(steps=40, step_ms=50))
            uri = f"comfy://workflows/{workflow_id}"
            await subscribe(client, uri)
            go_on()
            seen = await follow_legacy(client, heard, uri)
    assert seen[-1] == "completed"
    assert len(seen) > 1


async def test_a_listener_hears_of_the_job_up_to_its_end(tmp_path: Path) -> None:
    async with open_surface(tmp_path) as surface, surface.client("2026-07-28") as client:
        with held() as go_on:
            workflow_id = await submit(client, slow_graph(steps=40, step_ms=50))
            uri = f"comfy://workflows/{workflow_id}"
            async with client.listen(resource_subscriptions=[uri]) as stream:
                go_on()
                seen = await follow_modern(client, stream, uri)
    assert seen[-1] == "completed"
    assert len(seen) > 1


async def test_who_follows_a_batch_hears_of_it_up_to_its_end(tmp_path: Path) -> None:
    heard = Heard()
    async with open_surface(tmp_path) as surface, surface.client("legacy", message_handler=heard) as client:
        call = {"workflow": slow_graph(steps=5, step_ms=50), "variations": 2}
        with held() as go_on:
            batch = (await client.call_tool("submit_workflow", call)).structured_content["workflowId"]
            uri = f"comfy://workflows/{batch}"
            await subscribe(client, uri)
            go_on()
            seen = await follow_legacy(client, heard, uri)
    assert seen[-1] == "completed"
    assert len(seen) > 1


async def test_a_failed_and_a_cancelled_job_have_a_final_notification_too(tmp_path: Path) -> None:
    failing = slow_graph(steps=1)
    failing["3"] = {
        "class_type": "BridgeFail",
        "inputs": {"image": ["1", 0], "message": "no luck", "exception_type": "ValueError"},
    }
    failing["2"]["inputs"]["images"] = ["3", 0]
    async with open_surface(tmp_path) as surface:
        for graph, end in ((failing, "failed"), (slow_graph(steps=100, step_ms=100), "cancelled")):
            heard = Heard()
            async with surface.client("legacy", message_handler=heard) as client:
                await subscribe(client, WORKFLOWS)
                workflow_id = await submit(client, graph)
                uri = f"comfy://workflows/{workflow_id}"
                assert await heard.next_update() == WORKFLOWS
                await subscribe(client, uri)
                await unsubscribe(client, WORKFLOWS)
                if end == "cancelled":
                    await client.call_tool("cancel_workflow", {"workflow_id": workflow_id})
                while await status_of(client, uri) != end:
                    await heard.next_update()


async def test_new_jobs_and_outputs_change_the_resource_list_in_both_eras(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        open_surface(tmp_path) as surface,
        surface.client("legacy", message_handler=heard) as legacy,
        surface.client("2026-07-28") as modern,
        modern.listen(resources_list_changed=True) as stream,
    ):
        assert legacy.server_capabilities.resources is not None
        assert legacy.server_capabilities.resources.list_changed is True
        assert legacy.server_capabilities.resources.subscribe is True
        await submit(modern, slow_graph(steps=1))
        for _ in range(2):  # the job, then its output
            await heard.until_list_changed()
            async with asyncio.timeout(LIMIT_S):
                assert await anext(stream) == ResourcesListChanged()


async def test_the_queue_changes_with_its_jobs(tmp_path: Path) -> None:
    heard = Heard()
    async with open_surface(tmp_path) as surface, surface.client("legacy", message_handler=heard) as client:
        await subscribe(client, QUEUE)
        await submit(client, slow_graph(steps=1))
        assert await heard.next_update() == QUEUE


async def test_nothing_comes_after_unsubscribing(tmp_path: Path) -> None:
    heard = Heard()
    async with open_surface(tmp_path) as surface, surface.client("legacy", message_handler=heard) as client:
        await subscribe(client, QUEUE)
        await subscribe(client, WORKFLOWS)
        await unsubscribe(client, QUEUE)
        workflow_id = await submit(client, slow_graph(steps=1))
        await client.call_tool("wait_for_workflow", {"workflow_id": workflow_id})
        await unsubscribe(client, WORKFLOWS)
        uri = f"comfy://workflows/{workflow_id}"
        await subscribe(client, uri)
        await surface.bus.publish(ResourceUpdated(uri=QUEUE))
        await surface.bus.publish(ResourceUpdated(uri=uri))
        while (update := await heard.next_update()) != uri:
            assert update == WORKFLOWS


class OverrunHub:
    """Events of another job came faster than they were read, and some are gone."""

    seq = 0

    def __init__(self) -> None:
        self._events = Subscription(1)
        for seq in range(2):
            self._events.offer(StoredEvent(seq=seq, event=jobs.queued_event()))

    def listen(self, _listener: object) -> None: ...

    @contextmanager
    def subscribe(self, *, job_id: JobId | None, buffer: int, only_ends: bool) -> Iterator[Subscription]:
        yield self._events


def overrun(services: Services) -> Services:
    feed = Feed(cast("Hub", OverrunHub()), services.store, foreign_ahead=lambda: 0)
    return replace(services, feed=feed)


async def test_a_reader_that_was_overrun_announces_everything_anew(tmp_path: Path) -> None:
    heard = Heard()
    async with open_surface(tmp_path) as surface, surface.client("legacy", message_handler=heard) as client:
        workflow_id = await submit(client, slow_graph(steps=1))
        await client.call_tool("wait_for_workflow", {"workflow_id": workflow_id})
        uri = f"comfy://workflows/{workflow_id}"
        await subscribe(client, uri)
        services = overrun(surface.services)
        caller = Caller(client=ClientId("c"), surface="mcp-stdio")
        async with background(publish_events(Bridge(services), caller, surface.bus)):
            assert await heard.next_update() == uri


async def test_a_store_that_fails_meanwhile_does_not_end_the_notifications(tmp_path: Path) -> None:
    heard = Heard()
    async with open_surface(tmp_path) as surface, surface.client("legacy", message_handler=heard) as client:
        await subscribe(client, WORKFLOWS)
        services = overrun(replace(surface.services, store=cast("Store", FailingStore())))
        caller = Caller(client=ClientId("c"), surface="mcp-stdio")
        async with background(publish_events(Bridge(services), caller, surface.bus)):
            assert await heard.next_update() == WORKFLOWS


class FailingStore:
    async def list_views(self, query: JobQuery) -> NoReturn:
        raise StoreFault("It is locked.", next_step="Wait.")

    async def get_job(self, job_id: JobId) -> NoReturn:
        raise StoreFault("It is locked.", next_step="Wait.")


def changed_by(event: JobEvent) -> set[str]:
    pacing = Pacing()
    note_events(pacing, [StoredEvent(seq=1, event=event)])
    return set(pacing.take(0.0))


def test_each_event_changes_its_job_and_what_shows_it() -> None:
    queued = jobs.queued_event()
    job = queued_job(queued)
    uri = f"comfy://workflows/{job.id}"
    assert changed_by(queued) == {uri, QUEUE, WORKFLOWS, RESOURCE_LIST}
    assert changed_by(jobs.started(job)) == {uri, QUEUE, WORKFLOWS}
    assert changed_by(jobs.progressed(job, 0.5)) == {uri}
    assert changed_by(jobs.completed(job)) == {uri, QUEUE, WORKFLOWS}
    assert changed_by(jobs.completed(job, output_count=1)) == {uri, QUEUE, WORKFLOWS, RESOURCE_LIST}
    assert changed_by(jobs.failed(job)) == {uri, QUEUE, WORKFLOWS}
