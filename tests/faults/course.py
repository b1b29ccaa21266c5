"""The rounds and rests of one soak."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from comfy_mcp.metrics.metrics import STREAMS
from tests.faults.checker import Expectations, check, connect, read_record
from tests.faults.clients import Clients
from tests.faults.crowd import Crowd
from tests.faults.engines import EmbeddedProcess
from tests.faults.soak_report import Soak
from tests.faults.trial import NORMAL_REFUSALS, confessions
from tests.faults.world import KEY, Bridge, World
from tests.support import graphs
from tests.support.measured import Scrape, held, scrape

CLIENTS = 8
SUBSCRIBERS = 100
LIMIT_S = 180.0
"""A rest begins within this, and the bridge is back after a cut, on a machine as busy as can be."""

EXPECTED = Expectations(lossy_engine=False, refusals=NORMAL_REFUSALS)
RECONNECTED = "comfy_bridge_engine_reconnects_total"


class Course:
    """`bridges` and the `urls` of their metrics by name: a sidecar, and an agent's MCP server."""

    def __init__(
        self,
        world: World,
        engine: EmbeddedProcess,
        rng: random.Random,
        bridges: Mapping[str, Bridge],
        urls: Mapping[str, str],
    ) -> None:
        self.soak = Soak()
        self._world = world
        self._engine = engine
        self._rng = rng
        self._bridges = bridges
        self._surfaces = tuple(bridges.values())
        self._urls = urls
        self._clients = Clients(world)
        self._last_job: str | None = None
        self._crowd = Crowd(urls["sidecar"], rng=rng, some_job=lambda: self._last_job)
        self._submitting = False
        self._cuts = 0
        self._checked: dict[str, set[str]] = {}
        """The prompts of the jobs that the store had, and that were right, at the last rest."""
        self._forgotten: set[str] = set()
        """Prompts of jobs that were right and that retention has forgotten since."""

    # ------------------------------------------------------------------ a round

    async def round(self, jobs: int, cuts: int, *, subscribers: int = SUBSCRIBERS) -> None:
        async with self._session(), asyncio.TaskGroup() as tasks:
            crowd = tasks.create_task(self._crowd.come(subscribers))
            watching = tasks.create_task(self._watch_streams())
            cutting = tasks.create_task(self._cut(cuts, jobs))
            waiting = iter(range(jobs))
            clients = [tasks.create_task(self._client(waiting)) for _ in range(CLIENTS)]
            self._submitting = True
            for task in clients:
                await task
            self._submitting = False
            await cutting
            crowd.cancel()
            watching.cancel()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[None]:
        """Connections of this round's clients, none of which outlives it."""
        kept = self._world.session
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout, headers={"X-API-Key": KEY}) as session:
            self._world.session = session
            try:
                yield
            finally:
                self._world.session = kept

    async def _client(self, numbers: Iterator[int]) -> None:
        rng, clients = self._rng, self._clients
        for number in numbers:
            bridge = rng.choice(self._surfaces)
            kind, graph = self._graph()
            key = f"key {self.soak.jobs} {number}" if rng.random() < 0.3 else None
            entry = await clients.submit(bridge, kind, graph, key=key)
            if entry.job_id is None:
                self.soak.violations.append(f"a submit over {bridge.kind} was not taken")
                return
            self._last_job = entry.job_id
            match rng.choices(["follow", "cancel", "look", "leave"], [30, 10, 20, 40])[0]:
                case "follow":
                    await clients.follow(self._bridges["sidecar"], entry)
                case "cancel":
                    await clients.cancel(rng.choice(self._surfaces), entry)
                case "look":
                    await clients.status(rng.choice(self._surfaces), entry)
                case _:
                    pass

    def _graph(self) -> tuple[str, dict[str, object]]:
        match self._rng.choices(["text", "picture", "slow", "failing"], [50, 30, 10, 10])[0]:
            case "text":
                return "text", graphs.text()
            case "picture":
                return "picture", graphs.picture()
            case "slow":
                return "slow", graphs.slow(steps=self._rng.randint(2, 8), step_ms=3)
            case _:
                return "failing", graphs.failing()

    async def _cut(self, cuts: int, jobs: int) -> None:
        """While jobs run: at the first submit, and whenever so many more are there. The bridge is back each
        time before it is cut off again."""
        submitted = self._clients.submitted
        before = len(submitted)
        for number in range(cuts):
            while self._submitting and len(submitted) < before + jobs * number // cuts:
                await asyncio.sleep(0.02)
            self._world.proxy.cut(sockets_only=True)
            self._cuts += 1
            async with asyncio.timeout(LIMIT_S):
                while _sum(await self._scrapes(), RECONNECTED) < self._cuts:
                    await asyncio.sleep(0.1)

    async def _watch_streams(self) -> None:
        while True:
            now = (await self._scrapes())["sidecar"].value("comfy_bridge_open_streams")
            self.soak.most_streams = max(self.soak.most_streams, round(now))
            await asyncio.sleep(0.3)

    # ------------------------------------------------------------------ a rest

    async def rest(self, *, measured: bool = True) -> None:
        soak = self.soak
        try:
            async with asyncio.timeout(LIMIT_S):
                scrapes = await self._settle()
        except TimeoutError:
            soak.violations.append(f"no rest within {LIMIT_S:.0f} s: {await self._unrest()}")
            return
        await asyncio.to_thread(self._check)
        soak.violations += self._crowd.faults
        if broken := scrapes["sidecar"].value("http_requests_total", status_code="500"):
            soak.violations.append(f"{broken:.0f} requests were answered with 500")
        soak.visits = dict(self._crowd.visits)
        soak.reconnects = round(_sum(scrapes, RECONNECTED))
        if measured:
            self._measure(scrapes)

    def _measure(self, scrapes: Mapping[str, Scrape]) -> None:
        assert self._engine.process is not None
        pids = {name: bridge.process.pid for name, bridge in self._bridges.items()}
        for name, pid in {**pids, "engine": self._engine.process.pid}.items():
            found = held(pid)
            self._note(f"{name} memory", found.memory)
            self._note(f"{name} files", found.files)
            self._note(f"{name} threads", found.threads)
        for name, said in scrapes.items():
            self._note(f"{name} tasks", said.value("comfy_bridge_asyncio_tasks"))
            self._note(f"{name} subscribers", said.value("comfy_bridge_hub_subscribers"))
            self._note(f"{name} series", said.series)
        store = self._world.store_path
        for file, path in {"database": store, "wal": store.with_name(f"{store.name}-wal")}.items():
            self._note(f"store {file}", path.stat().st_size if path.exists() else 0)

    def _note(self, name: str, value: float) -> None:
        self.soak.series.setdefault(name, []).append((self.soak.jobs, value))

    async def _settle(self) -> dict[str, Scrape]:
        """Everybody is gone, every job final, retention done; and the processes say the same twice."""
        before: object = None
        while True:
            scrapes = await self._scrapes()
            now = [
                (said.value("comfy_bridge_asyncio_tasks"), said.value("comfy_bridge_hub_subscribers"))
                for said in scrapes.values()
            ]
            if now == before and not await self._unrest():
                return scrapes
            before = now
            await asyncio.sleep(0.5)  # a scrape's text is a quarter of a second old at most

    async def _unrest(self) -> list[str]:
        """What is still under way."""
        sidecar = (await self._scrapes())["sidecar"]  # the agent's one session stays
        streams = {kind: sidecar.value("comfy_bridge_open_streams", kind=kind) for kind in STREAMS}
        (open_jobs, final_jobs), *_ = await asyncio.to_thread(
            self._rows, "SELECT coalesce(sum(finished_at IS NULL), 0), count(finished_at) FROM jobs"
        )
        kept = int(self._world.settings["RETENTION_JOBS"])
        found = {
            f"streams are open: {streams}": any(streams.values()),
            f"{open_jobs} jobs are not final": open_jobs > 0,
            f"{final_jobs} final jobs are kept, of {kept} at most": final_jobs > kept,
            "the bridge has no event stream": not self._world.proxy.sockets,
        }
        return [text for text, true in found.items() if true]

    async def _scrapes(self) -> dict[str, Scrape]:
        return {name: await scrape(self._world.session, url) for name, url in self._urls.items()}

    def _check(self) -> None:
        """The checker of the trials, over what the store still has."""
        states = {str(job_id): str(status) for job_id, status in self._rows("SELECT id, status FROM jobs")}
        forgotten = self._checked.keys() - states.keys()
        for job_id in forgotten:
            self._forgotten |= self._checked.pop(job_id)
        clients = self._clients
        clients.submitted = [entry for entry in clients.submitted if entry.job_id not in forgotten]
        clients.answers = [(key, job_id) for key, job_id in clients.answers if job_id not in forgotten]
        record = read_record(self._engine.log_path)
        mine = {prompt: item for prompt, item in record.items() if prompt not in self._forgotten}
        outcome = check(self._world.store_path, mine, clients, EXPECTED)
        self.soak.violations += outcome.violations
        self.soak.prompts = len(record)
        new = states.keys() - self._checked.keys()
        self.soak.jobs += len(new)
        self.soak.states.update(states[job_id] for job_id in new)
        for job_id, prompt_id in self._rows("SELECT job_id, prompt_id FROM attempts"):
            self._checked.setdefault(str(job_id), set()).add(str(prompt_id))
        for job_id in new:
            self._checked.setdefault(job_id, set())

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = connect(self._world.store_path)
        try:
            return list(connection.execute(statement))
        finally:
            connection.close()

    async def end(self) -> None:
        soak = self.soak
        soak.violations += [
            f"a bridge ended with status {status}" for status in await self._world.end() if status
        ]
        soak.violations += await asyncio.to_thread(confessions, self._world)


def _sum(scrapes: Mapping[str, Scrape], name: str) -> float:
    return sum(said.value(name) for said in scrapes.values())
