"""Webhooks: where a job's events are sent, the secrets that sign them, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IS_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("webhook", sa.Text(), nullable=True))
    op.create_table(
        "webhooks",
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("old_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("client", name="pk_webhooks"),
    )
    op.create_table(
        "deliveries",
        sa.Column("seq", SEQUENCE, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("registered", sa.Boolean(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_deliveries_job_id", ondelete="CASCADE"),
        sa.UniqueConstraint("id", name="uq_deliveries_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_deliveries_due", "deliveries", ["due_at"], sqlite_where=IS_PENDING, postgresql_where=IS_PENDING
    )
    op.create_index("ix_deliveries_job_id_seq", "deliveries", ["job_id", "seq"])


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_column("jobs", "webhook")
