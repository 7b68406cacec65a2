"""Nothing lost: actions, cancellation, and clocks.

Revision: 0002, of 2026-11-24
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new."""
    op.add_column("tasks", sa.Column("cancel_ms", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("error_ms", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("clocks", sa.Text(), nullable=True))
    op.add_column("streams", sa.Column("boot", sa.Text(), nullable=True))
    op.add_column("streams", sa.Column("greeted", sa.Integer(), nullable=True))
    op.create_table(
        "actions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("actions_by_task", "actions", ["task", "seq"], unique=False)
    at_worker = sa.text("state IN ('assigned', 'running', 'unknown')")
    op.create_index("tasks_at_worker", "tasks", ["worker"], unique=False, sqlite_where=at_worker)


def downgrade() -> None:
    """Take it away again."""
    op.drop_index("tasks_at_worker", table_name="tasks")
    op.drop_index("actions_by_task", table_name="actions")
    op.drop_table("actions")
    op.drop_column("streams", "greeted")
    op.drop_column("streams", "boot")
    op.drop_column("workers", "clocks")
    op.drop_column("attempts", "error_ms")
    op.drop_column("tasks", "cancel_ms")
