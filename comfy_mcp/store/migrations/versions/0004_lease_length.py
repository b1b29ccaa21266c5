"""A lease says how long it may last, so that one from the future, after a clock went back, is recognised."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "engine_leases", sa.Column("ttl_ms", sa.BigInteger(), nullable=False, server_default="600000")
    )


def downgrade() -> None:
    op.drop_column("engine_leases", "ttl_ms")
