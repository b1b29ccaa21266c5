"""Large outputs: eight at once, next to downloads from the engine, and what streaming takes of memory."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from bench.clients import WORKFLOW
from bench.processes import Run, cpu_ms, engine, sidecar
from bench.raw import RawClient
from bench.stats import Aim, Sample, Section, ratio

CLIENTS = 8
ROUNDS = 15
PROXIED, FOLDER, CPU_MS_PER_MB = 1.5, 1.15, 0.5
GROWTH_MB = 16.0
"""What a stream may take of memory, however long the file is."""

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One output: where the sidecar and the engine have it."""

    url: str
    view: str
    size: int


@dataclass(slots=True, kw_only=True)
class Source:
    name: str
    url: str
    path: str
    pid: int
    times: Sample = field(default_factory=lambda: Sample(name="ms"))
    cpu: Sample = field(default_factory=lambda: Sample(name="CPU ms a MB"))

    async def round(self, size: int) -> None:
        before = cpu_ms(self.pid)
        await self.times.time(lambda: _all_at_once(self.url, self.path, size))
        self.cpu.values.append((cpu_ms(self.pid) - before) / (CLIENTS * size / MB))

    def forget(self) -> None:
        self.times.values.clear()
        self.cpu.values.clear()

    def row(self, direct: "Source | None" = None) -> tuple[str, ...]:
        compared = "—" if direct is None else f"{ratio(self.times, direct.times):.2f}"
        times = (f"{self.times.p50:.2f}", f"{self.times.p99:.2f}")
        return (self.name, str(len(self.times.values)), *times, compared, f"{self.cpu.p50:.2f}")


async def measure_files(run: Run) -> list[Section]:
    rounds = run.times(ROUNDS)
    folder = run.fresh("files")
    base = folder / "engine"
    async with AsyncExitStack() as stack:
        engine_url, engine_pid = await stack.enter_async_context(engine("embedded", base))
        remote, pid = await stack.enter_async_context(sidecar(folder, engine_url))
        small = await _make(remote, base, 0.1 if run.quick else 8.0)
        large = await _make(remote, base, 0.2 if run.quick else 200.0)
        outputs = {"OUTPUTS_DIR": str(base / "output"), "STATE_DIR": str(folder / "state")}
        local, local_pid = await stack.enter_async_context(sidecar(run.fresh("local"), engine_url, **outputs))
        direct = Source(name="from the engine itself", url=engine_url, path=small.view, pid=engine_pid)
        proxied = Source(name="sidecar, from the engine over HTTP", url=remote, path=small.url, pid=pid)
        disk = Source(name="sidecar, from the engine's folder", url=local, path=small.url, pid=local_pid)
        for number in range(-1, rounds):
            for source in (direct, proxied, disk) if number % 2 else (disk, proxied, direct):
                await source.round(small.size)
            if number < 0:  # the first round fills caches
                for source in (direct, proxied, disk):
                    source.forget()
        growth, rate = await _growth(remote, pid, large)
    size = f"{small.size / MB:.0f} MB"
    return [
        Section(
            title=f"Outputs of {size} to {CLIENTS} clients at once",
            note="Each client reads the whole output and drops it. On two cores the engine, the sidecar and "
            "the clients share the time, so each process that a byte passes through costs its part of it. "
            "CPU is that of the process that the clients ask. "
            f"A stream of {large.size / MB:.0f} MB from the engine took {growth:.1f} MB of memory at its "
            f"peak, at {rate:.0f} MB a second.",
            columns=("what", "n", "p50 ms", "p99 ms", "÷ direct", "CPU ms a MB"),
            rows=(direct.row(), proxied.row(direct), disk.row(direct)),
            aims=(
                Aim(
                    what=f"{CLIENTS} clients, {size}: proxied ÷ direct",
                    value=ratio(proxied.times, direct.times),
                    limit=PROXIED,
                    unit="times",
                ),
                Aim(
                    what=f"{CLIENTS} clients, {size}: from the folder ÷ direct",
                    value=ratio(disk.times, direct.times),
                    limit=FOLDER,
                    unit="times",
                ),
                Aim(what="CPU, proxied", value=proxied.cpu.p50, limit=CPU_MS_PER_MB, unit="ms/MB"),
                Aim(what="CPU, from the folder", value=disk.cpu.p50, limit=CPU_MS_PER_MB, unit="ms/MB"),
                Aim(
                    what=f"memory while streaming {large.size / MB:.0f} MB",
                    value=growth,
                    limit=GROWTH_MB,
                    unit="MB",
                ),
            ),
        )
    ]


async def _make(url: str, base: Path, megabytes: float) -> Made:
    """A picture of noise, which no compression makes smaller, through LoadImage and SaveImage."""
    side = int((megabytes * MB / 3) ** 0.5)
    name = f"noise-{side}.png"
    await asyncio.to_thread(_write_noise, base / "input" / name, side)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"bench/{side}"}},
    }
    client = await RawClient.connect(url)
    body = json.dumps({"workflow": graph}).encode()
    state: Mapping[str, Any] = (await client.post(WORKFLOW, body, Prefer="wait=60")).json
    while state["status"] in {"queued", "running"}:
        state = (await client.get(f"{WORKFLOW}/{state['workflowId']}/wait")).json
    assert state["status"] == "completed", state
    await client.close()
    [output] = state["outputs"]
    query = f"filename={output['filename']}&subfolder={output['subfolder']}&type={output['folder']}"
    file = base / "output" / output["subfolder"] / output["filename"]
    return Made(url=output["url"], view=f"/view?{query}", size=file.stat().st_size)


def _write_noise(path: Path, side: int) -> None:
    image = Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))
    image.save(path, format="PNG", compress_level=0)


async def _all_at_once(url: str, path: str, size: int) -> None:
    clients = [await RawClient.connect(url) for _ in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(client.get(path, keep=False)) for client in clients]
    for client, answer in zip(clients, answers, strict=True):
        assert (answer.result().status, answer.result().size) == (200, size)
        await client.close()


async def _growth(url: str, pid: int, made: Made) -> tuple[float, float]:
    """(MB by which the peak is above what was there before, MB a second). Asks the kernel of Linux."""
    client = await RawClient.connect(url)
    before = _status_mb(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # noqa: ASYNC240 - the peak starts anew here
    begin = time.perf_counter()
    answer = await client.get(made.url, keep=False)
    elapsed = time.perf_counter() - begin
    assert (answer.status, answer.size) == (200, made.size)
    await client.close()
    return _status_mb(pid, "VmHWM") - before, made.size / MB / elapsed


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes) * 1024 / MB
