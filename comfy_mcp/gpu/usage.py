"""The running jobs, and their GPU use from the samples."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.gpu import GpuSample
from comfy_mcp.domain.gpu_use import GpuAccount, GpuUse
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.vram import held_by, rooms_of
from comfy_mcp.settings import EngineSettings

MAX_RUNS = 256
"""Most runs kept at once; the oldest is dropped. An engine runs one prompt at a time."""


def local_engines(engines: Iterable[EngineSettings]) -> frozenset[EngineId]:
    """Those that are reached over loopback. That one works on this machine's GPUs is believed only where the
    driver shows the device that its /system_stats names: the port may be a tunnel's."""
    return frozenset(engine.id for engine in engines if _is_loopback(engine.url))


def _is_loopback(url: str) -> bool:
    host = (urlsplit(url).hostname or "").lower()
    return host in {"localhost", "::1"} or host.startswith("127.")


@dataclass(slots=True, kw_only=True)
class _Run:
    engine: EngineId
    account: GpuAccount


class GpuUsage:
    """The bridge says what runs, the monitor what the GPUs do. Of a remote engine's run only what its torch
    holds is known."""

    def __init__(
        self, *, local: Collection[EngineId] = (), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._local = frozenset(local)
        self._monotonic = monotonic
        self._runs: Bounded[PromptId, _Run] = Bounded(MAX_RUNS)
        self._memory: dict[EngineId, int] = {}
        self._kept: Mapping[EngineId, int] = {}

    def know(self, engines: Iterable[EngineSettings]) -> None:
        """These are the engines from now on."""
        known = list(engines)
        self._local = local_engines(known)
        self._memory = {each.id: self._memory[each.id] for each in known if each.id in self._memory}

    def memory_of(self, engine: EngineId) -> int | None:
        """Bytes of its GPU, by the last sample that knew it. None: no GPU, or nobody has asked."""
        return self._memory.get(engine, self._kept.get(engine))

    def recall(self, memory: Mapping[EngineId, int]) -> None:
        """What the store has of it, of engines that nobody may have asked yet."""
        self._kept = {**self._kept, **memory}

    @property
    def memory_news(self) -> Mapping[EngineId, int]:
        """What the store does not have yet."""
        return {engine: size for engine, size in self._memory.items() if self._kept.get(engine) != size}

    @property
    def local(self) -> frozenset[EngineId]:
        return self._local

    @property
    def running(self) -> bool:
        """A sample is worth taking."""
        return bool(self._runs)

    @property
    def engines(self) -> frozenset[EngineId]:
        """Those that work now."""
        return frozenset(run.engine for run in self._runs.values())

    @property
    def running_here(self) -> bool:
        """One of them is on this machine."""
        return not self._local.isdisjoint(self.engines)

    def begin(self, prompt_id: PromptId, engine: EngineId) -> None:
        """The engine has begun to work on it, now."""
        if prompt_id in self._runs:
            return
        self._runs[prompt_id] = _Run(engine=engine, account=GpuAccount(started_at=self._monotonic()))

    def hear(self, sample: GpuSample, *, fresh: bool = True) -> None:
        """A new sample; not `fresh`: its readings of the engines are older."""
        now = self._monotonic()
        self._memory |= {room.engine: room.total_bytes for room in rooms_of(sample).engines}
        for run in self._runs.values():
            device = sample.device_of(run.engine) if run.engine in self._local else None
            if device is not None:
                run.account.take(device, at=now)
            held = held_by(sample, run.engine) if fresh else None
            if held is not None:
                run.account.hold(held, at=now)

    def use(self, prompt_id: PromptId) -> GpuUse | None:
        """Its GPU use if it ended now. None if it was not measured."""
        run = self._runs.get(prompt_id)
        use = None if run is None else run.account.close(at=self._monotonic())
        return None if use == GpuUse() else use

    def forget(self, prompt_id: PromptId) -> None:
        """It has ended, and that has been written down."""
        self._runs.pop(prompt_id, None)

    def abandon(self, engine: EngineId) -> None:
        """This process does not drive the engine any more."""
        for prompt_id in [key for key, run in self._runs.items() if run.engine == engine]:
            del self._runs[prompt_id]
