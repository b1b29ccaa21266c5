"""What the store keeps beside jobs: outputs, what was learnt, and the keys of clients."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial

from comfy_mcp.domain.access import ApiKey, Right
from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.catalog import Output, OutputFound, Page
from comfy_mcp.domain.events import JobEvent
from comfy_mcp.domain.ids import ClientId, JobId, OutputId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.quotas import ClientUse
from comfy_mcp.domain.webhooks import ClientWebhook, Delivery, DeliveryQuery
from comfy_mcp.store import (
    choosing,
    door_marker,
    due,
    idempotency,
    keys,
    learned,
    outbox,
    outputs,
    quotas,
    reads,
    retention,
    spending,
    vram,
)
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import alembic_version, update
from comfy_mcp.store.database import Database
from comfy_mcp.store.outbox import Due
from comfy_mcp.store.queries import OutputQuery
from comfy_mcp.store.sqlite.direct import Direct
from comfy_mcp.store.threads import Worker

NEED_KEPT_S = 2.0
MAX_NEEDS = 256
"""Shapes whose need is remembered, for NEED_KEPT_S."""

WRITE_CHECK_S = 5.0
"""How often a probe writes at most, to see whether it can."""

FAILING_S = 15.0
"""A write that failed counts this long: a full disk may take a small write between two that it refuses."""

WEBHOOKS_KEPT_S = 2.0
"""A webhook that another process changed counts after this time at the latest: every submit asks."""

_TOUCH = Statement(update(alembic_version).values(version_num=alembic_version.c.version_num))


def _touch(connection: Connection) -> None:
    connection.execute(_TOUCH)


class SideTables:
    """The part of the store's face that has nothing to do with the life of a job."""

    _readers: Worker
    _writer: Worker
    _by_key: Direct | Worker

    def __init__(self, database: Database, *, kept_shapes: int) -> None:
        self._database = database
        self._kept_shapes = kept_shapes
        self._path = database.info.path
        self._written_at = float("-inf")
        self._needs: Bounded[str, tuple[float, int | None]] = Bounded(MAX_NEEDS)
        self._webhooks: tuple[float, dict[ClientId, ClientWebhook]] = (float("-inf"), {})

    # ------------------------------------------------------------------ learned, retention

    async def node_durations(self, class_types: Collection[str]) -> dict[str, float]:
        """Mean milliseconds by class_type, of those that are known."""
        return await self._readers.do(lambda connection: learned.durations(connection, class_types))

    async def observe_durations(self, observed: Mapping[str, Sequence[float]]) -> None:
        """Milliseconds by class_type."""
        await self._writer.do(lambda connection: learned.observe(connection, observed))

    async def vram_need(self, shape: str) -> int | None:
        """Bytes that workflows of that shape needed; None: none was measured.

        What another process has learnt shows within NEED_KEPT_S: every submit asks, most for the same shapes.
        """
        now = time.monotonic()
        known = self._needs.get(shape)
        if known is None or now - known[0] >= NEED_KEPT_S:
            need = await self._by_key.do(lambda connection: vram.need(connection, shape))
            known = self._needs[shape] = (now, need)
        return known[1]

    async def needs_of(self, jobs: Sequence[JobId]) -> dict[JobId, Needs]:
        """What they need of an engine, as far as that is kept."""
        return await self._readers.do(lambda connection: choosing.needs_of_jobs(connection, jobs))

    async def waiting_beyond(self, most: int) -> tuple[int, int]:
        """How many jobs that no engine has need more than `most` bytes, and the greatest need (else 0)."""
        return await self._readers.do(lambda connection: vram.waiting_beyond(connection, most))

    async def file_hash(self, path: str, size: int, mtime_ns: int) -> str | None:
        return await self._readers.do(lambda connection: learned.file_hash(connection, path, size, mtime_ns))

    async def put_file_hash(self, path: str, size: int, mtime_ns: int, sha256: str) -> None:
        await self._writer.do(
            lambda connection: learned.put_file_hash(connection, path, size, mtime_ns, sha256)
        )

    # ------------------------------------------------------------------ writing

    async def check_writable(self) -> None:
        """Raises StoreFault while writes fail: the last ones did, or this one does, asked now and then."""
        if (fault := self._database.met_within(FAILING_S)) is not None:
            raise fault
        now = time.monotonic()
        if now - self._written_at >= WRITE_CHECK_S:
            await self._writer.do(_touch)
            self._written_at = now

    # ------------------------------------------------------------------ access

    async def keys(self) -> list[ApiKey]:
        """All API keys by name, revoked ones too."""
        return await self._readers.do(keys.keys)

    async def add_key(self, key: ApiKey) -> None:
        """Raises Conflict when another key has the name."""
        await self._writer.do(lambda connection: keys.add_key(connection, key))
        door_marker.put(self._path)

    async def keys_required(self) -> bool:
        """Whether keys were in use here, also where they have been lost with the store."""
        return door_marker.is_set(self._path)

    async def require_keys(self) -> None:
        """Remember that keys are in use, beside the store: it outlives the store."""
        door_marker.put(self._path)

    async def revoke_key(self, name: str, *, at: int) -> bool:
        """False when there is no such key, or it has been revoked before."""
        return await self._writer.do(lambda connection: keys.revoke_key(connection, name, at))

    async def change_key(
        self, name: str, *, rights: Collection[Right], limits: Mapping[str, float | None]
    ) -> ApiKey | None:
        """See `keys.change_key`."""
        return await self._writer.do(lambda connection: keys.change_key(connection, name, rights, limits))

    async def forget_idempotency_keys(self, *, before: int) -> int:
        """Those used before that time (epoch ms). How many went."""
        gone = 0
        while some := await self._writer.do(partial(idempotency.forget_uses, before=before)):
            gone += some
        return gone

    async def use_of(self, clients: Collection[str], *, now: int) -> Mapping[ClientId, ClientUse]:
        """What they have and may have, of those that have a key."""
        if not clients:
            return {}
        return await self._readers.do(lambda connection: quotas.use_of(connection, clients, now))

    async def limited_use(self, *, now: int) -> Collection[ClientUse]:
        """The same of all whose key limits them."""
        return await self._readers.do(lambda connection: quotas.limited_use(connection, now))

    # ------------------------------------------------------------------ webhooks

    @property
    def may_have_webhooks(self) -> bool:
        """False: `webhooks` would answer that no client has one, without asking the database."""
        read_at, known = self._webhooks
        return bool(known) or time.monotonic() - read_at >= WEBHOOKS_KEPT_S

    async def webhooks(self, *, fresh: bool = False) -> Mapping[ClientId, ClientWebhook]:
        """Those of all clients, at most WEBHOOKS_KEPT_S old unless they are to be `fresh`."""
        now = time.monotonic()
        if fresh or now - self._webhooks[0] >= WEBHOOKS_KEPT_S:
            found = await self._by_key.do(outbox.all_webhooks)
            self._webhooks = (now, {each.client: each for each in found})
        return self._webhooks[1]

    async def put_webhook(self, webhook: ClientWebhook) -> None:
        """New, or instead of the one that the client has. What has not been delivered goes to its URL."""
        await self._writer.do(lambda connection: outbox.put_webhook(connection, webhook))
        await self._in_parts(partial(outbox.follow_url, client=webhook.client))
        self._webhooks = (float("-inf"), {})

    async def remove_webhook(self, client: ClientId, *, at: int) -> bool:
        """With its secrets; its deliveries that wait are dead. False: there was none."""
        known = client in await self.webhooks(fresh=True)
        await self._in_parts(partial(outbox.remove_webhook, client=client, at=at))
        self._webhooks = (float("-inf"), {})
        return known

    async def _in_parts(self, work: Callable[..., int | None]) -> None:
        """Run it in as many transactions as it takes, each from where the one before has ended."""
        after: int | None = 0
        while after is not None:
            after = await self._writer.do(partial(work, after=after))

    async def begin_tries(
        self, *, now: int, until: int, count: int, per_host: int, busy: Sequence[Delivery]
    ) -> list[Due]:
        """The deliveries that this process tries now beside those that are `busy`; from `until` on another
        one may."""
        room = due.Room(count, per_host, busy)
        if count <= 0 or not await self._readers.do(partial(outbox.any_due, now=now, room=room)):
            return []  # the usual case takes no writer
        return await self._writer.do(
            lambda connection: outbox.begin_tries(connection, now, until, due.Room(count, per_host, busy))
        )

    async def end_try(
        self, delivery: Delivery, *, at: int, error: str | None = None, due_at: int | None = None
    ) -> None:
        """Of a try that `begin_tries` began. Without an error it is delivered; with one it is due again at
        `due_at`, or dead (None)."""
        if error is None:
            await self._writer.do(lambda connection: outbox.delivered(connection, delivery, at))
        elif due_at is None:
            await self._writer.do(lambda connection: outbox.dead(connection, delivery, at, error))
        else:
            await self._writer.do(lambda connection: outbox.again(connection, delivery, due_at, error))

    async def release_tries(self, begun: Sequence[Delivery], *, at: int) -> None:
        """They were not tried to the end: another process may do it at once."""
        await self._writer.do(lambda connection: outbox.release(connection, begun, at))

    async def list_deliveries(self, query: DeliveryQuery) -> Page[Delivery]:
        """Newest first. Raises InvalidInput (`invalid_argument`)."""
        return await self._readers.do(lambda connection: outbox.listing(connection, query))

    async def replay_deliveries(self, query: DeliveryQuery, *, at: int) -> int:
        """Try the dead ones again that match. How many."""
        seqs = await self._readers.do(lambda connection: outbox.dead_ones(connection, query))
        return await self._writer.do(lambda connection: outbox.replay(connection, seqs, at)) if seqs else 0

    # ------------------------------------------------------------------ spending

    async def spent(self, *, at: int) -> int:
        """What the jobs at services count on that day, in millionths, with what is reserved."""
        return await self._by_key.do(lambda connection: spending.of_day(connection, at))

    async def has_run(self, lane: str, shape: str) -> bool:
        """Whether the last workflow of that shape which ended in the lane was completed."""
        return await self._readers.do(lambda connection: spending.has_run(connection, lane, shape))

    # ------------------------------------------------------------------ outputs

    async def list_outputs(self, query: OutputQuery) -> Page[Output]:
        """Newest first. Raises InvalidInput (`invalid_argument`)."""
        return await self._readers.do(lambda connection: outputs.listing(connection, query))

    async def without_size(self, ids: Collection[OutputId]) -> list[OutputId]:
        """Those of them whose size is not known."""
        return await self._readers.do(lambda connection: outputs.without_size(connection, ids))

    async def update_outputs(self, found: Sequence[OutputFound]) -> None:
        """What became known. An output that retention has forgotten is no error."""
        await self._writer.do(lambda connection: outputs.refine(connection, found))

    # ------------------------------------------------------------------ retention

    async def graphs_with(self, part: str) -> AsyncIterator[str]:
        """The texts of the graphs in which `part` stands, a few at a time: it reads all of them."""
        after = ""
        while rows := await self._readers.do(partial(reads.graphs_with, part=part, after=after)):
            for _, text in rows:
                yield text
            after = rows[-1][0]

    async def prune(self, *, now: int, retention_days: float, retention_jobs: int) -> int:
        """Forget final jobs beyond the limits (0 = no such limit), some at a time; how many went.

        Of the shapes whose need is known, those stay that were seen last.
        """
        while await self._readers.do(lambda connection: outbox.any_old(connection, now)):
            await self._writer.do(lambda connection: outbox.prune(connection, now))
        gone = 0
        while doomed := await self._readers.do(  # the usual case, none, takes no writer
            lambda connection: retention.beyond(connection, now, retention_days, retention_jobs)
        ):
            gone += await self._writer.do(partial(retention.forget, job_ids=doomed))
        if await self._readers.do(vram.known) > self._kept_shapes:
            await self._writer.do(partial(vram.forget, kept=self._kept_shapes))
        return gone

    def _taught(self, job: Job, event: JobEvent) -> None:
        """Ask again what the job's shape needs, if the event has changed that."""
        if (lesson := vram.lesson_of(job, event)) is not None:
            shape, _ = lesson
            self._needs.pop(shape, None)
