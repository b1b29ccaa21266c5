"""The memory of each engine's GPU."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("engine_leases", sa.Column("gpu_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("engine_leases", "gpu_bytes")
