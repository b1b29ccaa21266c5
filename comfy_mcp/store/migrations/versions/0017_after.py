"""Which jobs a job waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("after", sa.Text(), nullable=True))
    op.create_table(
        "job_parents",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.Column("any_end", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "parent_id", name="pk_job_parents"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_parents_job_id", ondelete="CASCADE"),
    )
    op.create_index("ix_job_parents_parent_id", "job_parents", ["parent_id"])


def downgrade() -> None:
    op.drop_table("job_parents")
    op.drop_column("jobs", "after")
