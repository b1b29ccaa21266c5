"""A job names the newest one that retries it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retried_by", sa.Text(), nullable=True))
    jobs = sa.table("jobs", sa.column("id"), sa.column("seq"), sa.column("retry_of"), sa.column("retried_by"))
    connection = op.get_bind()
    retries = sa.select(jobs.c.id, jobs.c.retry_of).where(jobs.c.retry_of.is_not(None)).order_by(jobs.c.seq)
    for retry, retried in connection.execute(retries).all():
        connection.execute(sa.update(jobs).where(jobs.c.id == retried).values(retried_by=retry))


def downgrade() -> None:
    op.drop_column("jobs", "retried_by")
