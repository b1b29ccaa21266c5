"""Jobs, the store that keeps them, and the GPUs that they run on."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from comfy_mcp.settings.names import Group
from comfy_mcp.settings.paths import expanded


class JobGroup(Group):
    client_name: str = Field(
        default="local",
        min_length=1,
        max_length=128,
        description="Client name of the jobs that this process submits over stdio and from the command line.",
    )
    pipeline_depth: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Prompts sent to an engine ahead of time: one runs, the others wait in the engine's "
        "queue.",
    )
    max_attempts: int = Field(
        default=2,
        ge=1,
        le=10,
        description="How often a job is sent to an engine before it fails as engine_lost (out of memory: "
        "twice at most).",
    )
    queue_timeout_s: float = Field(
        default=0.0,
        ge=0,
        description="Default limit on queue time, for jobs that set none (0 = no limit).",
    )
    run_timeout_s: float = Field(
        default=0.0,
        ge=0,
        description="Default limit on run time of each attempt, for jobs that set none (0 = no limit).",
    )
    fair_share: bool = Field(
        default=True,
        description="Clients with jobs of the same priority take turns; if false, the oldest job runs first.",
    )
    max_queued: int = Field(
        default=10_000, ge=1, description="Maximum number of queued jobs; further submits are refused."
    )
    max_graph_bytes: int = Field(
        default=4 * 2**20, ge=1024, description="Maximum size of a workflow, as JSON."
    )
    workflow_roots: tuple[Path, ...] = Field(
        default=(),
        description="Folders from which workflows and input files may be read by path, separated like PATH. "
        "Default: the working folder.",
    )
    workflows: Path | None = Field(
        default=None,
        description="Folder of workflows that clients find and submit by name: JSON, or pictures, videos and "
        "sounds of ComfyUI. Read when asked for.",
    )

    @field_validator("workflow_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(expanded(part) for part in value.split(os.pathsep) if part)
        return value


def _state_dir() -> Path:
    import platformdirs  # not where the setting says it, as in a container

    return Path(platformdirs.user_state_dir("comfy-mcp-bridge", appauthor=False))


class StoreGroup(Group):
    state_dir: Path = Field(
        default_factory=_state_dir,
        description="Folder of the store. It is created with access for its owner only.",
    )
    store: SecretStr | None = Field(
        default=None,
        description="PostgreSQL database for the jobs, `postgresql://USER:PASSWORD@HOST/NAME`; several "
        "machines can share it. Not set: a SQLite file in `COMFY_BRIDGE_STATE_DIR`.",
    )
    store_synchronous: Literal["normal", "full"] = Field(
        default="normal",
        description="`normal` survives kill -9 of any process; `full` also a power failure, with one disk "
        "sync per write.",
    )
    lease_ttl_s: float = Field(
        default=10.0,
        gt=0,
        description="After this time another process takes over the engines of a process that died.",
    )
    retention_days: float = Field(
        default=30.0, ge=0, description="Ended jobs are deleted after this many days (0 = never)."
    )
    retention_jobs: int = Field(
        default=10_000, ge=0, description="Maximum number of ended jobs that are kept (0 = no limit)."
    )

    @field_validator("store")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it must begin with postgresql://")
        return value

    @property
    def inputs_path(self) -> Path:
        """Copies of the files that jobs wait with."""
        return self.state_dir / "inputs"

    @property
    def kept_outputs_path(self) -> Path:
        """Outputs that were fetched from services."""
        return self.state_dir / "outputs"

    @property
    def assets_path(self) -> Path:
        """What clients call the files that they uploaded ahead of their jobs."""
        return self.state_dir / "assets"

    @property
    def link_key_path(self) -> Path:
        """The key that signs links to outputs."""
        return self.state_dir / "links.key"

    @property
    def store_path(self) -> Path:
        return self.state_dir / "bridge.sqlite3"


class GpuGroup(Group):
    vram_hold: bool = Field(
        default=False,
        description="Hold a job until an engine has as much free VRAM as such jobs needed before; if false, "
        "only warn.",
    )
