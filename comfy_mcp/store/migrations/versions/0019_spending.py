"""What jobs at services may cost and have cost, by job and by day; and what ran there, by its shape."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

IS_ELSEWHERE = sa.text("lane <> 'local'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("spend", sa.Text(), nullable=True))
    op.create_table(
        "spending",
        sa.Column("day", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_spending"),
    )
    op.create_index(
        "ix_jobs_elsewhere",
        "jobs",
        ["lane", "shape", "seq"],
        sqlite_where=IS_ELSEWHERE,
        postgresql_where=IS_ELSEWHERE,
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_elsewhere", "jobs")
    op.drop_table("spending")
    op.drop_column("jobs", "spend")
