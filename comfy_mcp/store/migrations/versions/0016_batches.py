"""Which workflows came with one submit."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

IS_IN_BATCH = sa.text("batch IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("batch", sa.Text(), nullable=True))
    op.create_index(
        "ix_jobs_batch", "jobs", ["batch", "seq"], sqlite_where=IS_IN_BATCH, postgresql_where=IS_IN_BATCH
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_batch", "jobs")
    op.drop_column("jobs", "batch")
