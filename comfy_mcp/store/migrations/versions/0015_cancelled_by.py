"""Who cancelled a job, and when its progress was last said."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cancelled_by", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("progress_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "progress_at")
    op.drop_column("jobs", "cancelled_by")
