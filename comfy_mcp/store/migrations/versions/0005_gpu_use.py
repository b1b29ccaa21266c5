"""What a job took of a GPU."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("gpu_seconds", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("peak_vram_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "peak_vram_bytes")
    op.drop_column("jobs", "gpu_seconds")
