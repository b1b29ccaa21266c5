"""Results about engines, GPUs and the store."""

from typing import Literal

from pydantic import Field

from comfy_mcp.operations.shapes.base import (
    NextStep,
    Part,
    Result,
    Text,
)


class GpuMemory(Part):
    used: int | None
    total: int | None
    percent_used: float | None


class GpuProcessItem(Part):
    """`memory` None: the driver does not report it (normal in containers and on Windows)."""

    pid: int
    memory: int | None


class MigItem(Part):
    """A slice of a GPU; the driver measures its memory only."""

    index: int
    name: str
    uuid: str | None
    memory: GpuMemory


class GpuItem(Part):
    """A GPU now. `engine`: the engine that is the only source. Clocks are in MHz; `slowed_by` are the reasons
    that slow it down; `processes` are the largest, `process_count` counts all; ECC errors since loading.
    """

    index: int
    name: Text
    uuid: str | None = None
    state: Literal["ok", "lost", "reset_required", "failed"] = "ok"
    fault: str | None = None
    utilization: float | None
    memory: GpuMemory
    temperature: float | None
    temperature_limit: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    graphics_clock: int | None = None
    memory_clock: int | None = None
    throttle_reasons: list[str] | None = None
    slowed_by: list[str] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    processes: list[GpuProcessItem] | None = None
    process_count: int | None = None
    mig: list[MigItem] = Field(default_factory=list)
    engine: str | None = None

    def text(self) -> str:
        facts: list[str] = [] if self.state == "ok" else [self.state]
        if self.utilization is not None:
            facts.append(f"{self.utilization:.0f} %")
        if self.memory.used is not None and self.memory.total is not None:
            facts.append(f"{self.memory.used / 2**30:.1f} of {self.memory.total / 2**30:.1f} GiB")
        if self.temperature is not None:
            facts.append(f"{self.temperature:.0f} °C")
        return f"{self.name} ({', '.join(facts)})" if facts else self.name


class EngineVramItem(Part):
    """A device from its engine's /system_stats. `torch_total` is reserved by its torch, `torch_free` is the
    unused part of it. `gpu`: its index among the GPUs, if that is certain."""

    engine: str
    name: str
    type: str
    index: int | None
    vram_total: int | None
    vram_free: int | None
    torch_total: int | None
    torch_free: int | None
    gpu: int | None


class GoneGpuItem(Part):
    name: str
    uuid: str


class GpuResult(Result):
    """`gone` are GPUs that the driver showed earlier and no longer shows."""

    available: bool
    source: str
    gpus: list[GpuItem]
    reason: str | None = None
    engines: list[EngineVramItem] = Field(default_factory=list)
    gone: list[GoneGpuItem] = Field(default_factory=list)
    problems: list[NextStep] = Field(default_factory=list)
    sampled_at: int | None = None

    def text(self) -> str:
        shown = ", ".join(item.text() for item in self.gpus) or f"No GPU: {self.reason or 'none reported'}"
        return " ".join([f"{shown}.", *self.problems]) if self.problems else shown


class EngineItem(Part):
    """`driven_by`: "this process", "another process", or None (nobody: its jobs wait). `events`: this process
    receives its events; None where another drives it. `age_ms`: time since its last word."""

    id: str
    url: str
    up: bool
    version: Text | None = None
    is_comfyui: bool | None = None
    queue_remaining: int | None = None
    driven_by: str | None = None
    error: Text | None = None
    labels: list[str] = Field(default_factory=list)
    drained: bool = False
    events: bool | None = None
    age_ms: int | None = None

    @property
    def state(self) -> str:
        return f"{'up' if self.up else 'down'}{', drained' if self.drained else ''}"

    def text(self) -> str:
        return f"{self.id} {self.state}" + (f" ({self.error})" if self.error else "")


class DrainResult(Result):
    engine: str
    drained: bool

    def text(self) -> str:
        if self.drained:
            return f"Engine {self.engine} ends what it has and takes nothing new."
        return f"Engine {self.engine} takes workflows again."


class EngineChangeResult(Result):
    """`file` is what was changed. Each process reads it within seconds."""

    engine: str
    file: str
    next_step: NextStep

    def text(self) -> str:
        return f"{self.file} is changed. {self.next_step}"


class StoreItem(Part):
    path: str
    driver: str
    version: str
    journal_mode: str
    schema_revision: str
    set_aside: str | None = None


class SpendingItem(Part):
    """What workflows at services cost today (UTC), with what is reserved for those that have not ended."""

    today: float
    budget: float | None


class SystemResult(Result):
    """`foreign_prompts` counts what the engines have from others than this bridge. `spending`: if a price is
    set."""

    version: str
    client: str
    engines: list[EngineItem]
    jobs: dict[str, int]
    foreign_prompts: int = 0
    gpu: GpuResult
    store: StoreItem
    spending: SpendingItem | None = None
    problems: list[NextStep] = Field(default_factory=list)

    def text(self) -> str:
        engines = ", ".join(item.text() for item in self.engines)
        jobs = f"{self.jobs.get('running', 0)} running, {self.jobs.get('queued', 0)} queued"
        if self.foreign_prompts:
            jobs += f", and {self.foreign_prompts} submitted in ComfyUI itself"
        if (spending := self.spending) is not None:
            of = "" if spending.budget is None else f" of {spending.budget:g}"
            jobs += f". Services today: {spending.today:g}{of}"
        fix = f" Fix: {' '.join(self.problems)}" if self.problems else ""
        return f"Engines: {engines}. Jobs: {jobs}. GPU: {self.gpu.text()}.{fix}"
