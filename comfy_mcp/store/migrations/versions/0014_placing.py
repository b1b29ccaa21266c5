"""What a job needs of an engine by a short name, which engines refused it, and which are drained."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("needs_key", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("refused_by", sa.Text(), nullable=True))
    op.add_column("engine_leases", sa.Column("drained_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("engine_leases", "drained_at")
    op.drop_column("jobs", "refused_by")
    op.drop_column("jobs", "needs_key")
