"""Turns of clients. What waits already has the tag 0, and so runs by age, before what comes later."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_IS_QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("share_tag", sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_index("ix_jobs_queue", table_name="jobs")
    _index("ix_jobs_queue", ["status", "lane", "priority", "share_tag", "seq", "prompt_id"])
    _index("ix_jobs_client_queue", ["client", "lane", "priority", "share_tag", "seq", "prompt_id"])
    op.create_table(
        "client_shares",
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("tag", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lane", "priority", "client", name=op.f("pk_client_shares")),
    )


def downgrade() -> None:
    op.drop_table("client_shares")
    op.drop_index("ix_jobs_client_queue", table_name="jobs")
    op.drop_index("ix_jobs_queue", table_name="jobs")
    op.drop_column("jobs", "share_tag")
    _index("ix_jobs_queue", ["status", "lane", "priority", "seq", "prompt_id"])


def _index(name: str, columns: list[str]) -> None:
    op.create_index(name, "jobs", columns, unique=False, sqlite_where=_IS_QUEUED, postgresql_where=_IS_QUEUED)
