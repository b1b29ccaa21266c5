"""Large outputs: eight at once, next to downloads from the engine, and what streaming takes of memory."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bench.http_raw import RawClient
from bench.http_requests import WORKFLOW
from bench.http_servers import sidecar
from bench.stats import Aim, Sample, Section, ratio, row

CLIENTS = 8
TIMES = 1.15
GROWTH_MB = 16.0
"""What a stream may take of memory, however long the file is."""

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One output: where the sidecar and the engine have it."""

    url: str
    view: str
    size: int


async def measure_files(
    engine_url: str, base: Path, folder: Path, *, small_mb: float, large_mb: float, rounds: int
) -> Section:
    """`base` is the engine's base directory on this machine."""
    direct = Sample(name="from the engine itself")
    proxied = Sample(name="sidecar, from the engine over HTTP")
    on_disk = Sample(name="sidecar, from the engine's folder (COMFYUI_OUTPUTS)")
    async with AsyncExitStack() as stack:
        remote, pid = await stack.enter_async_context(sidecar(folder / "remote", engine_url))
        small = await _make(remote, base, small_mb)
        large = await _make(remote, base, large_mb)
        outputs = {"OUTPUTS_DIR": str(base / "output"), "STATE_DIR": str(folder / "remote" / "state")}
        local, _ = await stack.enter_async_context(sidecar(folder / "local", engine_url, **outputs))
        for _ in range(rounds):
            for sample, url, path in (
                (direct, engine_url, small.view),
                (proxied, remote, small.url),
                (on_disk, local, small.url),
            ):
                await sample.time(partial(_all_at_once, url, path, small.size))
        growth, rate = await _growth(remote, pid, large)
    return Section(
        title=f"Outputs of {small.size / MB:.0f} MB to {CLIENTS} clients at once",
        note="Each client reads the whole output and drops it. On two cores the engine, the sidecar and the "
        "clients share the time, so a byte that passes through one process more costs its part of it. "
        f"A stream of {large.size / MB:.0f} MB from the engine took {growth:.1f} MB of memory at its peak, "
        f"at {rate:.0f} MB a second.",
        columns=("what", "n", "p50 ms", "p99 ms", "p50 - first", "p50 ÷ first"),
        rows=(row(direct), row(proxied, direct), row(on_disk, direct)),
        aims=(
            Aim(
                what="large outputs, proxied ÷ direct",
                value=ratio(proxied, direct),
                limit=TIMES,
                unit="times",
            ),
            Aim(what="large outputs, disk ÷ direct", value=ratio(on_disk, direct), limit=TIMES, unit="times"),
            Aim(
                what=f"memory while streaming {large.size / MB:.0f} MB",
                value=growth,
                limit=GROWTH_MB,
                unit="MB",
            ),
        ),
    )


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
    return Made(url=output["url"], view=f"/view?{query}", size=output["size"])


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
