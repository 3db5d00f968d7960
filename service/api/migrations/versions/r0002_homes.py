"""The home that records belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for it; the next service to start is it."""
    op.create_table(
        "homes",
        sa.Column("id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_homes"),
    )


def downgrade() -> None:
    """Forget it."""
    op.drop_table("homes")
