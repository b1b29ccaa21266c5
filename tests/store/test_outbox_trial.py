"""A thousand deliveries while receivers fail and the process that sends dies: each at least once, signed, in
the order of its job, and none of what was rolled back."""

import asyncio
import random
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import standardwebhooks

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.webhooks import EVENTS, ClientWebhook, DeliveryQuery, DeliveryState, Webhook
from comfy_mcp.library.links import Links
from comfy_mcp.metrics import Metrics
from comfy_mcp.operations import deliveries
from comfy_mcp.operations.deliveries import Sender
from comfy_mcp.places.posting import Poster
from comfy_mcp.settings import Settings
from comfy_mcp.store import Lease, Store
from tests.support.jobs import GRAPH, completed, failed, new_prompt_id, queued_event, started
from tests.support.webhook_receiver import Receiver, receiving

JOBS = 334
SECRETS = ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def now_ms() -> int:
    return round(time.time() * 1000)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "wal"))


async def run_jobs(store: Store, lease: Lease, chance: random.Random, url: str, count: int) -> dict[str, str]:
    """Jobs from submit to end, and the ends of their ids by job. Some writes fail, and are made again."""
    ends: dict[str, str] = {}
    for _ in range(count):
        webhook = Webhook(url=url, events=EVENTS) if chance.random() < 0.5 else Webhook()
        await store.add_job(replace(queued_event(at=now_ms()), webhook=webhook), GRAPH, max_queued=10_000)
        claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=now_ms())
        assert claim is not None
        job, at = claim.job, now_ms()
        end = completed(job, at) if chance.random() < 0.7 else failed(job, at)
        if chance.random() < 0.2:
            other = failed(job, at) if end.type == "completed" else completed(job, at)
            with pytest.raises(Fenced):
                await store.record(replace(lease, fence=lease.fence + 1), job.id, [started(job, at), other])
        await store.record(lease, job.id, [started(job, at)])
        await store.record(lease, job.id, [end])
        ends[job.id] = f"{end.type}_1"
    return ends


def sender_of(store: Store, tmp_path: Path) -> Sender:
    services: Any = SimpleNamespace(
        store=store,
        now_ms=now_ms,
        metrics=Metrics(engines=(), version="", now_ms=now_ms),
        links=Links(tmp_path / "links.key", None, now_ms=now_ms),
    )
    return Sender(services, Poster(private=True, timeout_s=0.5))


async def open_and_lease(settings: Settings) -> tuple[Store, Lease]:
    store = await Store.open(settings)
    lease = await store.acquire_lease(EngineId("engine"), "me", 600)
    assert lease is not None
    return store, lease


async def kill(store: Store, sending: asyncio.Task[None]) -> None:
    """The store first, so that nothing can be given back."""
    await store.close()
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending


async def all_sent(store: Store) -> None:
    while (await store.list_deliveries(DeliveryQuery(state=DeliveryState.PENDING, limit=1))).items:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["wal", "postgresql"], indirect=True)
async def test_a_thousand_deliveries_under_faults(
    settings: Settings, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    monkeypatch.setattr(deliveries, "delay_ms", lambda tries, jitter, pause_s: round(20 * jitter))
    monkeypatch.setattr(deliveries, "LOOK_S", 0.02)
    monkeypatch.setattr(deliveries, "TRY_S", 2)
    ends: dict[str, str] = {}
    async with receiving(lambda: chance.choices((204, 500, 0, -1), (90, 12, 5, 1))[0]) as receiver:
        store, lease = await open_and_lease(settings)
        await store.put_webhook(_webhook(receiver.url))
        for _ in range(2):
            sending = asyncio.create_task(sender_of(store, tmp_path).run())  # noqa: TID251 - killed below
            ends |= await run_jobs(store, lease, chance, receiver.url, JOBS // 2)
            await kill(store, sending)
            store, lease = await open_and_lease(settings)
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            senders = [group.create_task(sender_of(store, tmp_path).run()) for _ in range(2)]
            await all_sent(store)
            for each in senders:
                each.cancel()
        await store.close()
    _check(receiver, ends)


def _webhook(url: str) -> ClientWebhook:
    return ClientWebhook(
        client=ClientId("local"),
        url=url,
        events=EVENTS,
        created_at=0,
        secret=SECRETS[0],
        old_secret=SECRETS[1],
        old_until=now_ms() + 600_000,
    )


def _check(receiver: Receiver, ends: dict[str, str]) -> None:
    accepted: dict[str, list[str]] = defaultdict(list)
    for each in receiver.got:
        for secret in SECRETS:
            said = standardwebhooks.Webhook(secret).verify(each.body, each.headers)
        event, job_id = each.event, each.event["data"]["workflowId"]
        assert said == event
        shown = {"workflow.queued": "queued", "workflow.started": "running"}
        assert event["data"]["status"] == shown.get(event["type"], event["type"].removeprefix("workflow."))
        if each.status == 204 and each.id not in accepted[job_id]:
            accepted[job_id].append(each.id)
    assert accepted == {
        job_id: [f"msg_{job_id}_{what}" for what in ("queued_0", "started_1", end)]
        for job_id, end in ends.items()
    }
    assert sum(map(len, accepted.values())) == 3 * len(ends) >= 1_000
