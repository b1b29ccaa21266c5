"""Rights, API keys and idempotency; the same rules on every surface."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from comfy_mcp.domain.ids import ClientId


class Right(StrEnum):
    """READ, SUBMIT and CANCEL reach the caller's own jobs; ADMIN reaches everybody's. With HIGH a job may
    have that priority, which passes all others; with SPEND it may use what costs
    money, partner nodes and services. METRICS reads /metrics and nothing else."""

    READ = "read"
    SUBMIT = "submit"
    CANCEL = "cancel"
    HIGH = "high"
    METRICS = "metrics"
    ADMIN = "admin"
    SPEND = "spend"


ALL_RIGHTS = frozenset(Right)
"""The rights of the person at the machine: stdio, the shell, and HTTP on loopback without keys."""

DEFAULT_KEY_RIGHTS = frozenset({Right.READ, Right.SUBMIT, Right.CANCEL})
"""The rights of an API key that was created without a list of rights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: `digest` is the SHA-256 of the secret, which nobody keeps. Times are epoch ms.

    `name` is also the client that its jobs belong to. `max_queued` of them and `max_queued_bytes` of graphs
    may wait at once, `max_running` of them be at engines, and `max_gpu_seconds` be used a day (None = no
    limit of its own).
    """

    name: str
    digest: str
    rights: frozenset[Right]
    created_at: int
    revoked_at: int | None = None
    max_queued: int | None = None
    max_queued_bytes: int | None = None
    max_running: int | None = None
    max_gpu_seconds: float | None = None


def digest_of(key: str) -> str:
    """What is kept of a key: its SHA-256.

    Keys are 256-bit random tokens, so there is nothing to guess that a slow hash would protect.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """A client's promise that equal keys mean the same submit. `digest` is the hash of the submit.
    `client` is who submits, also where the job is another's.

    `since` (epoch ms): an older use of the key no longer counts.
    """

    client: ClientId
    key: str
    digest: str
    since: int
