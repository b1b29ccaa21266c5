"""What the client of a key may have at engines and use in a day, and how often a priority was passed by."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_OF_KEYS = ("max_running", "max_gpu_seconds", "gpu_seconds", "gpu_until")


def upgrade() -> None:
    for name in _OF_KEYS:
        kind = sa.Float() if name.endswith("_seconds") else sa.BigInteger()
        op.add_column("api_keys", sa.Column(name, kind, nullable=True))
    op.create_table(
        "passed_over",
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("claims", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lane", "priority", name=op.f("pk_passed_over")),
    )


def downgrade() -> None:
    op.drop_table("passed_over")
    for name in _OF_KEYS:
        op.drop_column("api_keys", name)
