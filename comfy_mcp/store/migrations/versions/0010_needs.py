"""What a job needs of the place where it runs, and what a place calls an attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("graphs", sa.Column("needs", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("reference", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "reference")
    op.drop_column("graphs", "needs")
