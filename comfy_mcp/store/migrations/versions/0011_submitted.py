"""What was submitted, where that was not the graph itself."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("graphs", sa.Column("submitted", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("graphs", "submitted")
