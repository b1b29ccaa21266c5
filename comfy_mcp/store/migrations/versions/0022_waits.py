"""Deliveries that wait for an earlier one of their job, and the others by client and host."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

IS_PENDING = sa.text("state = 'pending'")
IS_FIRST = sa.text("state = 'pending' AND NOT waits")


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("waits", sa.Boolean(), nullable=False, server_default=sa.false()))
    table = sa.table("deliveries", *map(sa.column, ("seq", "job_id", "state", "waits")))
    earlier = table.alias("earlier")
    before_it = sa.exists().where(
        earlier.c.job_id == table.c.job_id, earlier.c.seq < table.c.seq, earlier.c.state == "pending"
    )
    op.execute(table.update().where(table.c.state == "pending", before_it).values(waits=sa.true()))
    op.drop_index("ix_deliveries_due", "deliveries")
    for name, columns in (("due", ["client", "due_at"]), ("host", ["client", "host", "due_at"])):
        op.create_index(
            f"ix_deliveries_{name}",
            "deliveries",
            columns,
            sqlite_where=IS_FIRST,
            postgresql_where=IS_FIRST,
        )


def downgrade() -> None:
    op.drop_index("ix_deliveries_host", "deliveries")
    op.drop_index("ix_deliveries_due", "deliveries")
    op.create_index(
        "ix_deliveries_due", "deliveries", ["due_at"], sqlite_where=IS_PENDING, postgresql_where=IS_PENDING
    )
    op.drop_column("deliveries", "waits")
