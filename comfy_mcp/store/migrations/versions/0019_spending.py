"""What jobs at services cost, by job and by day; what ran there, by its shape; the tags of jobs."""

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
    op.add_column("jobs", sa.Column("tags", sa.Text(), nullable=True))
    op.create_table(
        "job_tags",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "tag", name="pk_job_tags"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_tags_job_id", ondelete="CASCADE"),
    )
    op.create_index("ix_job_tags_tag", "job_tags", ["tag"])


def downgrade() -> None:
    op.drop_table("job_tags")
    op.drop_column("jobs", "tags")
    op.drop_index("ix_jobs_elsewhere", "jobs")
    op.drop_table("spending")
    op.drop_column("jobs", "spend")
