"""The engines of the trials: the embedded one, new for each, and the real ComfyUI, kept as long as it lives.

Both write the same record of what they did.
"""

import asyncio
import copy
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support import graphs
from tests.support.real_comfyui import RealComfyUI
from tests.support.spawned import Spawned, spawn

TXT2IMG = Path(__file__).parents[1] / "data" / "workflows" / "txt2img_tiny_ksampler.json"
LAUNCHER = Path(__file__).parents[1] / "support" / "logged_comfyui.py"

Kinded = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVersion:
    """Of the embedded engine: classes of nodes `without` which it comes, and upper bounds of their inputs."""

    version: str
    without: tuple[str, ...] = ()
    most: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Engine(Protocol):
    """An engine that can die and come back on the same folder."""

    @property
    def log_path(self) -> Path: ...
    @property
    def log_from(self) -> int:
        """Where this trial begins in the record."""
        ...

    @property
    def outputs(self) -> Path: ...
    @property
    def alive(self) -> bool: ...
    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        ...

    async def start(self) -> int:
        """Start it (again), with nothing in its queue; the port."""
        ...

    async def kill(self) -> None: ...
    def become(self, version: OtherVersion | None) -> None:
        """What it starts as from now on; None: as itself."""

    def pause(self) -> None: ...
    def go_on(self) -> None: ...
    async def release(self) -> None:
        """The trial is over."""

    def graph(self, rng: random.Random) -> Kinded:
        """A graph and its kind, which says how many outputs it makes (checker.OUTPUTS)."""
        ...

    def foreign_graph(self, steps: int) -> Mapping[str, Any]: ...
    def endless_graph(self) -> Mapping[str, Any]:
        """One that no trial sees the end of."""
        ...


TakeEngine = Callable[[Path, int | None], Engine]
"""From a trial's folder and the length of the engine's history (None: its own)."""

OpenEngines = Callable[[Path], AbstractAsyncContextManager[TakeEngine]]
"""Opens what the trials of one worker need, one after the other."""


# ------------------------------------------------------------------------------------------ embedded


@dataclass(eq=False, slots=True)
class EmbeddedProcess:
    """`python -m comfy_mcp.embedded`, forked."""

    folder: Path
    history_limit: int | None = None
    process: Spawned | None = None
    version: OtherVersion | None = None

    @property
    def log_path(self) -> Path:
        return self.folder / "execution.jsonl"

    @property
    def log_from(self) -> int:
        return 0

    @property
    def outputs(self) -> Path:
        return self.folder / "output"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--base-directory", str(self.folder), "--execution-log", str(self.log_path)]
        if self.history_limit is not None:
            arguments += ["--history-limit", str(self.history_limit)]
        chaos: dict[str, Any] = {"modes": True}
        if self.version is not None:
            chaos["engine"] = asdict(self.version)
        self.process = await spawn(
            "comfy_mcp.embedded", *arguments, folder=self.folder, log=self.folder / "engine.log", chaos=chaos
        )
        line = await self.process.line()
        return int(line.rsplit(":", 1)[1])

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def become(self, version: OtherVersion | None) -> None:
        self.version = version

    def pause(self) -> None:
        assert self.process is not None
        self.process.pause()

    def go_on(self) -> None:
        assert self.process is not None
        self.process.go_on()

    async def release(self) -> None:
        if self.alive:
            await self.kill()

    def graph(self, rng: random.Random) -> Kinded:
        match rng.choice(["picture", "slow", "slow", "slow", "text", "failing"]):
            case "slow":
                return "slow", graphs.slow(steps=rng.randint(3, 40), step_ms=rng.choice([5, 20, 40]))
            case "text":
                return "text", graphs.text()
            case "failing":
                return "failing", graphs.failing()
            case _:
                return "picture", graphs.picture()

    def foreign_graph(self, steps: int) -> Mapping[str, Any]:
        return graphs.slow(steps=steps, step_ms=10)

    def endless_graph(self) -> Mapping[str, Any]:
        return graphs.slow(steps=10_000, step_ms=50)


@asynccontextmanager
async def embedded_engines(_folder: Path) -> AsyncIterator[TakeEngine]:
    yield lambda folder, history_limit: EmbeddedProcess(folder, history_limit)


# ------------------------------------------------------------------------------------- the real ComfyUI


class ComfyUIProcess:
    """Starts in seconds, so it stays for the next trial unless this one killed it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = RealComfyUI(folder, launcher=(str(LAUNCHER), str(self.log_path)))
        self._txt2img = json.loads(TXT2IMG.read_text())
        self._alive = False
        self._turn = asyncio.Lock()
        self.log_from = 0

    @property
    def log_path(self) -> Path:
        return self._folder / "execution.jsonl"

    @property
    def outputs(self) -> Path:
        return self._folder / "output"

    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def pid(self) -> int:
        return self._server.pid

    def begin(self) -> None:
        with suppress(FileNotFoundError):
            self.log_from = self.log_path.stat().st_size

    async def start(self) -> int:
        async with self._turn:
            if not self._alive:
                await asyncio.to_thread(self._server.start)
                self._alive = True
            return self._server.port

    async def kill(self) -> None:
        async with self._turn:
            if self._alive:
                self._alive = False
                await asyncio.to_thread(self._server.kill)

    def become(self, version: OtherVersion | None) -> None:
        raise NotImplementedError("it is what it is: kinds of trial that ask for this say embedded_only")

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    async def release(self) -> None:
        self.go_on()

    def graph(self, rng: random.Random) -> Kinded:
        if rng.random() < 0.3:
            return "picture", graphs.picture()
        return "slow", self._sampled(rng.randint(2, 30), rng.randrange(2**32))

    def foreign_graph(self, steps: int) -> Mapping[str, Any]:
        return self._sampled(steps, random.randrange(2**32))

    def endless_graph(self) -> Mapping[str, Any]:
        return self._sampled(10_000, random.randrange(2**32))

    def _sampled(self, steps: int, seed: int) -> Mapping[str, Any]:
        graph = copy.deepcopy(self._txt2img)
        for node in graph.values():
            if node["class_type"] == "KSampler":
                node["inputs"] |= {"steps": steps, "seed": seed}
        return dict(graph)

    def _signal(self, number: signal.Signals) -> None:
        if self._alive:
            with suppress(ProcessLookupError):
                os.kill(self._server.pid, number)


@asynccontextmanager
async def comfyui_engines(folder: Path) -> AsyncIterator[TakeEngine]:
    engine = ComfyUIProcess(folder)
    try:
        await engine.start()

        def take(_folder: Path, _history_limit: int | None) -> Engine:
            engine.begin()
            return engine

        yield take
    finally:
        await engine.kill()
