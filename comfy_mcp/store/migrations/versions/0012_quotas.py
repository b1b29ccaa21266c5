"""What a key's client may have in the queue, and the right to the priority `high`, which old keys keep."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("graph_bytes", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("max_queued", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("max_queued_bytes", sa.BigInteger(), nullable=True))
    op.execute("UPDATE api_keys SET rights = rights || ' high' WHERE ' ' || rights || ' ' LIKE '% submit %'")


def downgrade() -> None:
    op.execute("UPDATE api_keys SET rights = trim(replace(' ' || rights || ' ', ' high ', ' '))")
    op.execute("UPDATE api_keys SET rights = trim(replace(' ' || rights || ' ', ' metrics ', ' '))")
    op.drop_column("api_keys", "max_queued_bytes")
    op.drop_column("api_keys", "max_queued")
    op.drop_column("jobs", "graph_bytes")
