"""Deadlines of jobs, what a job is a retry of, and the kind of a failure as a column of its own."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MAY_EXPIRE = sa.text("status = 'queued' AND queue_deadline IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("queue_timeout_ms", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("run_timeout_ms", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("queue_deadline", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("retry_of", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("oom_retried", sa.Boolean(), nullable=True))
    op.add_column("jobs", sa.Column("failure_kind", sa.Text(), nullable=True))
    op.create_index(
        "ix_jobs_queue_deadline",
        "jobs",
        ["status", "queue_deadline"],
        unique=False,
        sqlite_where=_MAY_EXPIRE,
        postgresql_where=_MAY_EXPIRE,
    )
    jobs = sa.table("jobs", sa.column("id"), sa.column("failure"), sa.column("failure_kind"))
    connection = op.get_bind()
    failed = connection.execute(sa.select(jobs.c.id, jobs.c.failure).where(jobs.c.failure.is_not(None))).all()
    for job_id, failure in failed:
        connection.execute(
            sa.update(jobs).where(jobs.c.id == job_id).values(failure_kind=json.loads(failure)["kind"])
        )


def downgrade() -> None:
    op.drop_index("ix_jobs_queue_deadline", table_name="jobs")
    for name in (
        "failure_kind",
        "oom_retried",
        "retry_of",
        "queue_deadline",
        "run_timeout_ms",
        "queue_timeout_ms",
    ):
        op.drop_column("jobs", name)
