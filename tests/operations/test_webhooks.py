"""Webhooks by the operations: who may, what is signed, what is sent, and what becomes of failures."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import Conflict, Denied, ErrorCode, InvalidInput, NotFound, StoreFault
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.metrics.negotiation import Format
from comfy_mcp.operations import deliveries
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.deliveries import Sender
from comfy_mcp.places.posting import Posted
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import CALLER, Bench
from tests.support.graphs import picture, slow
from tests.support.metrics import metrics_of
from tests.support.webhook_receiver import receiving

ELSE = Caller(client=ClientId("else"), surface="test", rights=DEFAULT_KEY_RIGHTS)


@pytest.fixture
async def private(settings: Settings) -> AsyncIterator[Bench]:
    """Receivers on this machine are allowed."""
    async with open_runtime(settings.model_copy(update={"private_urls": True})) as services:
        yield Bench(services, CALLER)


async def test_a_workflow_tells_its_end_signed(private: Bench) -> None:
    async with receiving() as receiver:
        made = await private("set_webhook", url=receiver.url)
        assert made.secret.startswith("whsec_")
        submitted = await private("submit_workflow", workflow=picture(), name="a fox")
        (got,) = await receiver.until(1)
        said = standardwebhooks.Webhook(made.secret).verify(got.body, got.headers)
        assert got.id == f"msg_{submitted.workflow_id}_completed_1"
        assert (said["type"], said["data"]["name"]) == ("workflow.completed", "a fox")
        state = await private("workflow_status", workflow_id=submitted.workflow_id)
        shown = state.model_dump(mode="json", exclude={"next_step"})
        for each in (*said["data"]["outputs"], *shown["outputs"]):
            each["size"] = each.pop("path", None)  # found out after the end; the path is this machine's
        assert said["data"] == shown | {"outputs": said["data"]["outputs"]}
        assert [each["outputId"] for each in shown["outputs"]] == [
            each["outputId"] for each in said["data"]["outputs"]
        ]
        assert said["timestamp"].endswith("Z")


async def test_links_need_no_key_where_the_server_is_public(settings: Settings) -> None:
    changed = {"private_urls": True, "public_url": "https://bridge.example"}
    async with open_runtime(settings.model_copy(update=changed)) as services, receiving() as receiver:
        call = Bench(services, CALLER)
        await call("set_webhook", url=receiver.url)
        await call("submit_workflow", workflow=picture())
        (got,) = await receiver.until(1)
        (output,) = got.event["data"]["outputs"]
        assert output["link"].startswith(f"https://bridge.example{output['url']}?expires=")


async def test_a_submit_may_name_its_own_url_and_events(private: Bench) -> None:
    async with receiving() as own, receiving() as registered:
        with pytest.raises(InvalidInput, match="no webhook secret"):
            await private("submit_workflow", workflow=picture(), webhook=own.url)
        secret = (await private("rotate_webhook_secret")).secret
        await private("submit_workflow", workflow=picture())  # there is no URL yet
        webhook = {"url": own.url, "events": ["workflow.queued", "workflow.completed"]}
        await private("set_webhook", url=registered.url)
        first = await private("submit_workflow", workflow=picture(), webhook=webhook)
        same: dict[str, Any] = {"workflow": picture(), "webhook": own.url, "idempotency_key": "k"}
        assert await private("submit_workflow", **same) == await private("submit_workflow", **same)
        with pytest.raises(Conflict):
            await private("submit_workflow", **same | {"webhook": registered.url})
        got = await own.until(3)
        for each in got:
            standardwebhooks.Webhook(secret).verify(each.body, each.headers)
        of_first = [each.event["type"] for each in got if first.workflow_id in each.id]
        assert of_first == ["workflow.queued", "workflow.completed"]
        assert registered.got == []


async def test_two_secrets_sign_while_one_is_rotated(private: Bench) -> None:
    async with receiving() as receiver:
        made = await private("set_webhook", url=receiver.url)
        assert made.text() == f"Events of tester are sent to {receiver.url}."
        old = made.secret
        assert (await private("set_webhook", url=receiver.url)).secret is None
        new = await private("rotate_webhook_secret")
        assert new.old_secret_until is not None
        await private("submit_workflow", workflow=picture())
        (got,) = await receiver.until(1)
        assert len(got.headers["webhook-signature"].split(" ")) == 2
        for secret in (old, new.secret):
            standardwebhooks.Webhook(secret).verify(got.body, got.headers)


async def test_a_client_reaches_its_own_webhook_and_an_administrator_all(call_without_engine: Bench) -> None:
    admin = call_without_engine
    other = Bench(admin.services, ELSE)
    await admin("set_webhook", url="https://a.example/", events=["workflow.failed"])
    await other("set_webhook", url="https://b.example/")
    with pytest.raises(Denied):
        await other("set_webhook", url="https://c.example/", client="tester")
    await admin("set_webhook", url="https://c.example/", client="else")
    assert [each.url for each in (await other("list_webhooks")).webhooks] == ["https://c.example/"]
    listed = (await admin("list_webhooks")).webhooks
    assert [(each.client, each.events) for each in listed] == [("else", []), ("tester", ["workflow.failed"])]
    assert "whsec" not in str(listed)
    assert (await admin("list_webhooks")).text() == "2 webhook(s)."
    removed = await other("remove_webhook")
    assert (removed.removed, removed.text()) == (True, "The webhook of else was removed.")
    with pytest.raises(NotFound):
        await other("remove_webhook")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://",
        "https://[::1",
        "https://user:word@a.example/",
        "http://127.0.0.1:9/",
        "http://[fd00::1]/",
        f"https://a.example/{'x' * 1990}",
    ],
)
async def test_a_url_that_cannot_be_used_is_refused(call_without_engine: Bench, url: str) -> None:
    with pytest.raises(InvalidInput):
        await call_without_engine("set_webhook", url=url)
    await call_without_engine("set_webhook", url="https://a.example/")
    with pytest.raises(InvalidInput) as raised:
        await call_without_engine("submit_workflow", workflow=picture(), webhook=url)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "webhook",
    [{"url": "https://a.example/", "event": ["workflow.queued"]}, {"url": "https://a.example/", "": 1}],
)
async def test_a_name_that_a_webhook_does_not_have_is_refused(
    call_without_engine: Bench, webhook: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="webhook: must have only `url` and `events`"):
        await call_without_engine("submit_workflow", workflow=picture(), webhook=webhook)


async def test_null_is_what_a_webhook_is_not_given(private: Bench) -> None:
    async with receiving() as own:
        await private("rotate_webhook_secret")
        submitted = await private(
            "submit_workflow", workflow=picture(), webhook={"url": own.url, "events": None}
        )
        (got,) = await own.until(1)
        assert (got.event["type"], submitted.workflow_id in got.id) == ("workflow.completed", True)


class Answers:
    """A receiver that needs no network."""

    def __init__(self, *answers: Posted | Exception) -> None:
        self.left = list(answers)
        self.asked: list[str] = []

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes, client: ClientId) -> Posted:
        self.asked.append(json.loads(body)["type"])
        answer = self.left.pop(0) if self.left else Posted()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def quiet(settings: Settings, tmp_path: Path) -> AsyncIterator[Bench]:
    """No process drives the engine or sends; the test does."""
    async with open_runtime(settings, drive=False) as services:
        yield Bench(services, CALLER)


async def cancelled(call: Bench) -> str:
    """A job with a delivery."""
    job = await call("submit_workflow", workflow=picture())
    await call("cancel_workflow", workflow_id=job.workflow_id)
    return str(job.workflow_id)


@asynccontextmanager
async def sending(call: Bench, post: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(Sender(call.services, post).run())
        yield
        sender.cancel()


async def sent(call: Bench, post: Any, what: str) -> Any:
    """The one delivery once its state, tries and error are so."""
    async with sending(call, post), asyncio.timeout(30):
        while True:
            (one,) = (await call("list_deliveries")).deliveries
            if what in f"{one.state} {one.tries} {one.error}":
                return one
            await asyncio.sleep(0.005)


async def changed(call: Bench, values: str) -> None:
    """The delivery, as somebody else left it."""
    text = f"UPDATE deliveries SET {values}"
    await call.services.store._writer.do(lambda connection: connection.exec_driver_sql(text))


async def test_what_fails_is_tried_later_and_then_given_up(
    quiet: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quiet("set_webhook", url="https://a.example/")
    job_id = await cancelled(quiet)
    failed = Posted(error="the answer is HTTP 500")
    one = await sent(quiet, Answers(failed), "pending 1 the answer is HTTP 500")
    assert one.due_at > one.created_at
    assert one.type == "workflow.cancelled"
    monkeypatch.setattr(deliveries, "delay_ms", lambda tries, jitter, pause_s: None)
    await changed(quiet, "due_at = 0")
    one = await sent(quiet, Answers(failed), "dead 2")
    assert (one.due_at, one.ended_at is None) == (None, False)
    with pytest.raises(NotFound):
        await quiet("replay_deliveries", delivery_id="msg_other")
    replayed = await quiet("replay_deliveries", workflow_id=job_id)
    assert (replayed.replayed, replayed.text()) == (1, "1 delivery is tried again.")
    assert (await quiet("replay_deliveries")).text() == "0 deliveries are tried again."
    listed = await quiet("list_deliveries", state="pending", workflow_id=job_id)
    assert listed.text() == "1 delivery."
    await sent(quiet, Answers(), "delivered 1")
    text = metrics_of(quiet.services).render(Format.TEXT)[0].decode()
    for outcome in ("delivered", "failed", "dead"):
        assert f'comfy_bridge_webhook_tries_total{{outcome="{outcome}"}} 1.0' in text


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
async def test_a_receiver_that_is_gone_gets_no_more(quiet: Bench, counted: bool) -> None:
    call = quiet if counted else Bench(replace(quiet.services, metrics=None), quiet.caller)
    await call("set_webhook", url="https://a.example/")
    await cancelled(call)
    await sent(call, Answers(Posted(error="the answer is HTTP 410", gone=True)), "dead 1")


async def test_a_defect_or_a_store_that_fails_ends_one_try(
    quiet: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender goes on, and the try is made again once it counts as lost."""
    monkeypatch.setattr(deliveries, "TRY_S", 0)
    await quiet("set_webhook", url="https://a.example/")
    await cancelled(quiet)
    fault = StoreFault("full", next_step="Wait.")
    answers = Answers(RuntimeError("a defect"), fault)
    assert (await sent(quiet, answers, "delivered")).tries == len(answers.asked) >= 3


async def test_what_cannot_be_signed_or_read_is_dead(quiet: Bench) -> None:
    await quiet("set_webhook", url="https://a.example/")
    await cancelled(quiet)
    await changed(quiet, "job = '[]'")
    await sent(quiet, Answers(), "dead 1 it can't be read")
    await quiet("replay_deliveries")
    await changed(quiet, "client = 'nobody'")
    await sent(quiet, Answers(), "dead 1 it can't be signed")


async def test_a_sender_that_stops_gives_back_what_it_has(quiet: Bench) -> None:
    await quiet("set_webhook", url="https://a.example/")
    await cancelled(quiet)
    begun = asyncio.Event()

    async def hangs(url: str, headers: Mapping[str, str], body: bytes, client: ClientId) -> Posted:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with sending(quiet, hangs):
        await begun.wait()
        assert (await quiet("list_deliveries")).deliveries[0].tries == 1
    (one,) = (await quiet("list_deliveries")).deliveries
    assert (one.state, one.tries) == ("pending", 0)


async def test_a_retry_and_a_batch_are_sent_where_their_submit_said(private: Bench) -> None:
    async with receiving() as receiver:
        await private("rotate_webhook_secret")
        webhook = {"url": receiver.url, "events": ["workflow.queued"]}
        batch = await private("submit_workflow", workflow=slow(), variations=2, webhook=webhook)
        await private("cancel_workflow", workflow_id=batch.workflow_id)
        again = await private("retry_workflow", workflow_id=batch.workflow_ids[0])
        await private("cancel_workflow", workflow_id=again.workflow_id)
        got = [each.id for each in await receiver.until(3)]
        assert sorted(got) == sorted(
            f"msg_{each}_queued_0" for each in (*batch.workflow_ids, again.workflow_id)
        )


async def test_a_store_that_fails_is_asked_again(quiet: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "IDLE_LOOK_S", 0.01)
    await quiet("set_webhook", url="https://a.example/")
    await cancelled(quiet)
    store = quiet.services.store
    right, left = store.begin_tries, [StoreFault("locked", next_step="Wait.")]

    async def fails_once(**how: Any) -> Any:
        if left:
            raise left.pop()
        return await right(**how)

    monkeypatch.setattr(store, "begin_tries", fails_once)
    await sent(quiet, Answers(), "delivered 1")


async def test_a_store_that_is_closed_gets_nothing_back(
    quiet: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The try counts as lost after its time."""
    await quiet("set_webhook", url="https://a.example/")
    await cancelled(quiet)
    begun = asyncio.Event()

    async def hangs(url: str, headers: Mapping[str, str], body: bytes, client: ClientId) -> Posted:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def fails(begun: Any, *, at: int) -> None:
        raise StoreFault("full", next_step="Wait.")

    monkeypatch.setattr(quiet.services.store, "release_tries", fails)
    async with sending(quiet, hangs):
        await begun.wait()
    assert (await quiet("list_deliveries")).deliveries[0].tries == 1


async def test_a_commit_wakes_the_sender(quiet: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is sent does, and nothing else; without a webhook it asks nobody."""
    monkeypatch.setattr(deliveries, "LOOK_S", 600)
    monkeypatch.setattr(deliveries, "IDLE_LOOK_S", 600)
    asked = Answers()
    async with sending(quiet, asked), asyncio.timeout(30):
        await cancelled(quiet)
        await quiet("set_webhook", url="https://a.example/")
        await cancelled(quiet)
        while not asked.asked:
            await asyncio.sleep(0.005)
