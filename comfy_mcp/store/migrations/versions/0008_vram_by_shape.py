"""What workflows of a shape needed of a GPU's memory, and which jobs wait for it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_HELD = sa.text("status = 'queued' AND held_since IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "vram_shapes",
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("peaks", sa.Text(), nullable=False),
        sa.Column("need_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shape", name=op.f("pk_vram_shapes")),
    )
    op.add_column("jobs", sa.Column("shape", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("waiting_for", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("held_since", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_jobs_held",
        "jobs",
        ["status", "held_since"],
        unique=False,
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_held", table_name="jobs")
    for name in ("held_since", "waiting_for", "shape"):
        op.drop_column("jobs", name)
    op.drop_table("vram_shapes")
