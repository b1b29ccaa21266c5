"""What is undelivered by client, and what is forgotten by its age."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

IS_DELIVERED = sa.text("state = 'delivered'")
IS_UNDELIVERED = sa.text("state <> 'delivered'")


def upgrade() -> None:
    for name, columns, only in (
        ("undelivered", ["client", "seq"], IS_UNDELIVERED),
        ("delivered", ["ended_at"], IS_DELIVERED),
    ):
        op.create_index(
            f"ix_deliveries_{name}", "deliveries", columns, sqlite_where=only, postgresql_where=only
        )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_created_at", "idempotency_keys")
    op.drop_index("ix_deliveries_delivered", "deliveries")
    op.drop_index("ix_deliveries_undelivered", "deliveries")
