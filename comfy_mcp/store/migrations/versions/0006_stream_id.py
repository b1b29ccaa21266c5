"""An attempt says where the engine sends its events, so that the next process can receive them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("stream_id", sa.Text()))


def downgrade() -> None:
    op.drop_column("attempts", "stream_id")
