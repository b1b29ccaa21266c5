"""What people call a job."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("name", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "name")
