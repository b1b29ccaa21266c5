"""A real Prometheus on loopback, with the configuration and the rules of deploy/, in a hurry."""

import asyncio
import json
import shutil
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.debian import program
from tests.support.ports import HOST, free_port

DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"
EVERY = "1s"
POLL_S = 0.1
"""Between two looks at something that is awaited. Only the latency of noticing depends on it."""
LIMIT_S = 60.0
PORT_ATTEMPTS = 5


class _PortTakenError(RuntimeError):
    """Something else listens on the port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    url: str
    process: Process
    session: aiohttp.ClientSession
    log: Path

    async def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of its HTTP API."""
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = json.loads(await response.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    async def query(self, expression: str) -> Sequence[Sample]:
        """What an instant query returns, of an expression that gives a vector."""
        data = await self.get("query", query=expression)
        assert data["resultType"] == "vector", data
        return [Sample(labels=each["metric"], value=float(each["value"][1])) for each in data["result"]]

    async def until(self, expression: str) -> Sequence[Sample]:
        """What it returns as soon as that is not empty: a scrape that came late leaves a gap."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while not (found := await self.query(expression)):
                    await self.still_runs()
        except TimeoutError:
            raise AssertionError(f"Nothing for {LIMIT_S:g} s: {expression}") from None
        return found

    async def still_runs(self) -> None:
        """A moment later it does."""
        try:
            async with asyncio.timeout(POLL_S):
                await self.process.wait()
        except TimeoutError:
            return
        text = self.log.read_text(errors="replace")
        kind = _PortTakenError if "address already in use" in text else RuntimeError
        raise kind(f"Prometheus ended with {self.process.returncode}: {text[-2000:]}")


@asynccontextmanager
async def prometheus(folder: Path, *, target: str, key: str) -> AsyncIterator[Prometheus]:
    """Scrapes `target` (host:port) with `key`, once it is ready."""
    configuration = _configured(folder, target, key)
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        started = await _started(folder, configuration, session)
        try:
            yield started
        finally:
            await _end(started.process)


def _configured(folder: Path, target: str, key: str) -> Path:
    """As deployed, but for the address, the place of the key, and the pace."""
    copy = shutil.copytree(DEPLOYED, folder / "prometheus")
    file = copy / "prometheus.yml"
    configuration = yaml.safe_load(file.read_text())
    configuration["global"] = {
        "scrape_interval": EVERY,
        "scrape_timeout": EVERY,
        "evaluation_interval": EVERY,
    }
    (scrape,) = configuration["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    scrape["authorization"]["credentials_file"] = str(folder / "key")
    (folder / "key").write_text(f"{key}\n")  # as editors and openssl leave it
    file.write_text(yaml.safe_dump(configuration))
    return file


async def _started(folder: Path, configuration: Path, session: aiohttp.ClientSession) -> Prometheus:
    executable = await asyncio.to_thread(program, "prometheus")
    for attempts_left in reversed(range(PORT_ATTEMPTS)):
        port = free_port()
        log = folder / f"prometheus-{port}.log"
        process = await _start(executable, configuration, folder / "data", port, log)
        made = Prometheus(url=f"http://{HOST}:{port}", process=process, session=session, log=log)
        try:
            await _until_ready(made)
        except _PortTakenError:
            if not attempts_left:
                raise
        except BaseException:
            await _end(process)
            raise
        else:
            return made
    raise AssertionError


async def _start(executable: Path, configuration: Path, data: Path, port: int, log: Path) -> Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            executable,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={HOST}:{port}",
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            cwd=configuration.parent,
        )


async def _until_ready(started: Prometheus) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            await started.still_runs()
            try:
                async with started.session.get(f"{started.url}/-/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                continue


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()
