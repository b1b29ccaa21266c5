"""The tables. Portable SQL: SQLite now, PostgreSQL on the same definitions later.

HEAD names the newest migration; tests hold the migrations and these tables equal.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TextClause,
    false,
    literal_column,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

HEAD = "0023"

# A 64-bit key that grows by itself: INTEGER is SQLite's only way to say it.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Conditions of partial indexes. As a bound parameter the value would hide the index from the planner.
IS_QUEUED: TextClause = text("status = 'queued'")
MAY_EXPIRE: TextClause = text("status = 'queued' AND queue_deadline IS NOT NULL")
IS_HELD: TextClause = text("status = 'queued' AND held_since IS NOT NULL")
IS_IN_BATCH: TextClause = text("batch IS NOT NULL")
IS_ACTIVE: TextClause = text("state = 'active'")
IS_PENDING: TextClause = text("state = 'pending'")
IS_FIRST: TextClause = text("state = 'pending' AND NOT waits")
IS_DELIVERED: TextClause = text("state = 'delivered'")
IS_UNDELIVERED: TextClause = text("state <> 'delivered'")
IS_ELSEWHERE: TextClause = text("lane <> 'local'")
ONE: ColumnElement[int] = literal_column("1", Integer)
"""For LIMIT: SQLite compiles a statement whose LIMIT is a parameter anew at each use."""


def _child_of_job() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE")


def _only(condition: TextClause) -> dict[str, Any]:
    """Of an index: the rows that are in it."""
    return {"sqlite_where": condition, "postgresql_where": condition}


jobs = Table(
    "jobs",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("client", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("node_count", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("engine", Text),
    Column("prompt_id", Text),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("progress", Float, nullable=False),
    Column("current_node", Text),
    Column("current_node_title", Text),
    Column("eta_ms", BigInteger),
    Column("cancel_requested", Boolean, nullable=False),
    Column("cancel_reason", Text),
    Column("failure", Text),
    Column("warnings", Text),
    Column("output_count", Integer, nullable=False),
    Column("queue_timeout_ms", BigInteger),
    Column("run_timeout_ms", BigInteger),
    Column("queue_deadline", BigInteger),
    Column("retry_of", Text),
    Column("oom_retried", Boolean),
    Column("failure_kind", Text),
    Column("gpu_seconds", Float),
    Column("peak_vram_bytes", BigInteger),
    Column("share_tag", BigInteger, nullable=False, server_default="0"),
    Column("shape", Text),
    Column("waiting_for", Text),
    Column("held_since", BigInteger),  # of waiting_for, where an index finds it
    Column("retried_by", Text),
    Column("graph_bytes", BigInteger),  # null for jobs of before
    Column("name", Text),
    Column("needs_key", Text),  # of graphs.needs: engines that can't run one job of a key can run none
    Column("refused_by", Text),  # JSON: engines
    Column("cancelled_by", Text),
    Column("progress_at", BigInteger),
    Column("batch", Text),  # of jobs that came with one submit
    Column("after", Text),  # JSON: the jobs that it waits for, or waited for
    Column("webhook", Text),  # JSON: where its events are sent
    Column("spend", Text),  # JSON: what it may cost and has cost at a service
    Column("tags", Text),  # JSON: names and values of the client's
    Index("ix_jobs_status_seq", "status", "seq"),
    # The run order of a lane; with prompt_id it answers every count over the queue by itself. `status` comes
    # first although it is constant: else SQLite prefers the index above, and then reads and sorts the queue.
    Index(
        "ix_jobs_queue",
        "status",
        "lane",
        "priority",
        "share_tag",
        "seq",
        "prompt_id",
        **_only(IS_QUEUED),
    ),
    # One client's part of the same: its last tag, and which of its jobs is next.
    Index(
        "ix_jobs_client_queue",
        "client",
        "lane",
        "priority",
        "share_tag",
        "seq",
        "prompt_id",
        **_only(IS_QUEUED),
    ),
    Index("ix_jobs_queue_deadline", "status", "queue_deadline", **_only(MAY_EXPIRE)),
    Index("ix_jobs_elsewhere", "lane", "shape", "seq", **_only(IS_ELSEWHERE)),
    Index("ix_jobs_batch", "batch", "seq", **_only(IS_IN_BATCH)),
    Index("ix_jobs_held", "status", "held_since", **_only(IS_HELD)),
    sqlite_autoincrement=True,
)

# Apart from jobs: SQLite rewrites a whole row on each update, and a graph may have megabytes.
graphs = Table(
    "graphs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("graph", Text, nullable=False),
    Column("needs", Text),  # JSON: node classes and model files; null for jobs of before
    Column("submitted", Text),  # JSON: domain/extra_data.py; null where the graph itself was submitted
    _child_of_job(),
)

# The edges of jobs that have not ended: who waits for a job. A parent is kept as long as it has one.
job_parents = Table(
    "job_parents",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("parent_id", Text, primary_key=True),
    Column("any_end", Boolean, nullable=False),
    _child_of_job(),
    Index(None, "parent_id"),
)

# The tags of jobs once more, each as JSON, to find jobs by.
job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    _child_of_job(),
    Index(None, "tag"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("prompt_id", Text, nullable=False, unique=True),
    Column("engine", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # active, or the type of the event that ended it
    Column("claimed_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("stream_id", Text),  # where the engine sends its events (ComfyUI: the clientId)
    Column("reference", Text),  # what the place calls it, where that is not the prompt_id
    _child_of_job(),
    Index("ix_attempts_active", "engine", **_only(IS_ACTIVE)),
)

# A seq is never used twice, though rows go away: a reader that remembers one misses nothing.
events = Table(
    "events",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    _child_of_job(),
    Index("ix_events_job_id_seq", "job_id", "seq"),
    sqlite_autoincrement=True,
)

outputs = Table(
    "outputs",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("subfolder", Text, nullable=False),
    Column("folder_type", Text, nullable=False),
    Column("node", Text),
    Column("animated", Boolean, nullable=False),
    Column("text", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("size", BigInteger),
    Column("sha256", Text),
    _child_of_job(),
    Index("ix_outputs_job_id_seq", "job_id", "seq"),
    sqlite_autoincrement=True,
)

# `holder` is "" after a release. The row stays, so that `fence` only grows. `ttl_ms` is how long the lease
# may last from any moment on: one that seems to last longer was written before the clock went back.
# `drained_at`: since when the engine takes nothing new. `gpu_bytes`: its GPU's memory, as last read.
engine_leases = Table(
    "engine_leases",
    metadata,
    Column("engine", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("ttl_ms", BigInteger, nullable=False, server_default="600000"),
    Column("drained_at", BigInteger),
    Column("gpu_bytes", BigInteger),
)

# The tag of each client's last claimed job: `store/turns.py`.
client_shares = Table(
    "client_shares",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("priority", Integer, primary_key=True, autoincrement=False),
    Column("client", Text, primary_key=True),
    Column("tag", BigInteger, nullable=False),
)

# Claims of higher priorities while jobs of this one waited, since its own last claim: `store/turns.py`.
passed_over = Table(
    "passed_over",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("priority", Integer, primary_key=True, autoincrement=False),
    Column("claims", BigInteger, nullable=False),
)

node_durations = Table(
    "node_durations",
    metadata,
    Column("class_type", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("mean_ms", Float, nullable=False),
)

# `peaks` are the last ones as JSON, newest last; `need_bytes` is what they come to (domain/vram.py).
vram_shapes = Table(
    "vram_shapes",
    metadata,
    Column("shape", Text, primary_key=True),
    Column("peaks", Text, nullable=False),
    Column("need_bytes", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

file_hashes = Table(
    "file_hashes",
    metadata,
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
)

# One row per Idempotency-Key that a client used: the first answer, for as long as the key is kept.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    _child_of_job(),
    Index(None, "job_id"),
    Index(None, "created_at"),
)

# Only the digest of a key is kept. A revoked key stays, so that its name is not given out again.
api_keys = Table(
    "api_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("rights", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("max_queued", BigInteger),  # what may wait of its client; null = no limit of its own
    Column("max_queued_bytes", BigInteger),
    Column("max_running", BigInteger),  # what engines may have of it
    Column("max_gpu_seconds", Float),  # in a day
    Column("gpu_seconds", Float),  # used in the day that ends at gpu_until; kept where there is a limit
    Column("gpu_until", BigInteger),
)

# A client's webhook and the secrets that sign its deliveries. The events are words with spaces between.
webhooks = Table(
    "webhooks",
    metadata,
    Column("client", Text, primary_key=True),
    Column("url", Text),
    Column("events", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("secret", Text, nullable=False),
    Column("old_secret", Text),
    Column("old_until", BigInteger),
)

# The outbox: written with the event. `job` is the job's row as it was then, as JSON; it goes when the
# delivery is done. `registered`: it follows the URL of the client's webhook. `due_at`: of the next try, or
# when a process that tries it now counts as dead. `waits`: an earlier one of its job is pending.
deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("registered", Boolean, nullable=False),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("job", Text),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("error", Text),
    Column("waits", Boolean, nullable=False, server_default=false()),
    _child_of_job(),
    Index("ix_deliveries_due", "client", "due_at", **_only(IS_FIRST)),
    Index("ix_deliveries_host", "client", "host", "due_at", **_only(IS_FIRST)),
    Index("ix_deliveries_job_id_seq", "job_id", "seq"),
    Index("ix_deliveries_undelivered", "client", "seq", **_only(IS_UNDELIVERED)),
    Index("ix_deliveries_delivered", "ended_at", **_only(IS_DELIVERED)),
    sqlite_autoincrement=True,
)

# What the jobs at services cost, in millionths, by the day (UTC) of their submit; what is reserved counts.
spending = Table(
    "spending",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", BigInteger, nullable=False),
)

# Alembic's own table, by its own definition: read without importing Alembic.
alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", Text, primary_key=True, nullable=False)
)


class now_ms(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, epoch milliseconds: one clock for all who share a store."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS BIGINT)"


@compiles(now_ms, "postgresql")
def _postgresql_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
