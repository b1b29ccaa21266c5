"""Jobs, the store that keeps them, and the GPUs that they run on."""

import os
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode


class JobGroup(BaseModel):
    client_name: str = Field(
        default="local",
        min_length=1,
        max_length=128,
        description="Who this process submits as, over stdio and from the command line.",
    )
    pipeline_depth: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Prompts handed to an engine at once: one runs, the rest wait there.",
    )
    max_attempts: int = Field(
        default=2,
        ge=1,
        le=10,
        description="Submissions of one job before it fails as engine_lost (or oom, at the second).",
    )
    queue_timeout_s: float = Field(
        default=0.0,
        ge=0,
        description="A job that says nothing of it may wait so long for a start; 0 = for ever.",
    )
    run_timeout_s: float = Field(
        default=0.0,
        ge=0,
        description="A job that says nothing of it may run so long, each attempt; 0 = for ever.",
    )
    job_timeout_max_s: float = Field(
        default=604_800.0, gt=0, description="Upper limit of the timeouts that a submit asks for."
    )
    deadline_poll_s: float = Field(
        default=1.0, gt=0, description="How often waiting jobs are looked through for passed deadlines."
    )
    fair_share: bool = Field(
        default=True,
        description="Clients take turns within a priority; off: jobs run by age, whoever submitted them.",
    )
    max_queued: int = Field(default=10_000, ge=1, description="Queued jobs at which a submit is refused.")
    idempotency_ttl_s: float = Field(
        default=86_400.0,
        gt=0,
        description="How long an idempotency key stands for the first submit under it.",
    )
    max_graph_bytes: int = Field(default=4 * 2**20, ge=1024, description="Largest workflow, as JSON.")
    progress_interval_s: float = Field(
        default=0.25,
        gt=0,
        description="At most one step update per job in this time; the final one always comes.",
    )
    cancel_wait_s: float = Field(
        default=5.0, ge=0, description="How long a cancel waits to see its effect before it answers."
    )
    wait_default_s: float = Field(
        default=45.0, gt=0, description="wait_for_workflow without timeout_s waits so long."
    )
    wait_max_s: float = Field(default=600.0, gt=0, description="Upper limit of timeout_s.")
    workflow_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders from which workflow files may be read by path (list with the path separator). "
        "Default: the working folder.",
    )

    @field_validator("workflow_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(os.path.expanduser(part)) for part in value.split(os.pathsep) if part)  # noqa: PTH111
        return value


class StoreGroup(BaseModel):
    state_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir("comfy-mcp-bridge", appauthor=False)),
        description="Folder of the store; created with private permissions.",
    )
    store_synchronous: Literal["normal", "full"] = Field(
        default="normal",
        description="`normal` survives kill -9 of any process; `full` also a power cut, a sync per write.",
    )
    store_busy_timeout_s: float = Field(
        default=10.0, gt=0, description="How long a write waits for another process."
    )
    store_poll_s: float = Field(
        default=0.025, gt=0, description="How often a process looks for what other processes wrote."
    )
    lease_ttl_s: float = Field(
        default=10.0,
        gt=0,
        description="A process that drives an engine and dies is replaced after this time.",
    )
    retention_days: float = Field(
        default=30.0, ge=0, description="Final jobs older than this are forgotten; 0 = never."
    )
    retention_jobs: int = Field(default=10_000, ge=0, description="Final jobs kept at most; 0 = no limit.")
    retention_check_s: float = Field(
        default=60.0,
        gt=0,
        description="How often jobs beyond those limits are looked for, from the start on.",
    )

    @property
    def store_path(self) -> Path:
        return self.state_dir / "bridge.sqlite3"


class GpuGroup(BaseModel):
    gpu_sample_s: float = Field(
        default=2.0,
        gt=0,
        description="How old a GPU reading may be, and how often it is taken while somebody follows it.",
    )
    gpu_job_sample_s: float = Field(
        default=1.0,
        gt=0,
        description="How often this machine's GPUs are read while a job runs on them, for its GPU-seconds "
        "and peak VRAM.",
    )

    vram_hold: bool = Field(
        default=False,
        description="Hold a job until an engine has the VRAM that such jobs needed; off = only warn of it.",
    )
    vram_hold_max_s: float = Field(
        default=3_600.0,
        ge=0,
        description="A job is held for so long at most, then it runs all the same; 0 = until there is room.",
    )
    vram_shapes: int = Field(
        default=1_000,
        ge=1,
        description="Kinds of workflows (node classes and model files) whose VRAM is remembered, the last "
        "seen.",
    )
