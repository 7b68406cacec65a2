"""The right worker: tasks for each matching worker, and their children.

Revision: 0003, of 2026-11-25
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new."""
    op.add_column("tasks", sa.Column("target", sa.Text(), server_default="one", nullable=False))
    op.add_column("tasks", sa.Column("parent", sa.Text(), nullable=True))
    is_child, is_open = "parent IS NOT NULL", "state IN ('pending', 'assigned', 'running', 'unknown')"
    op.create_index("tasks_by_parent", "tasks", ["parent", "seq"], unique=False, sqlite_where=sa.text(is_child))
    op.create_index(
        "tasks_open_by_parent", "tasks", ["parent"], unique=False, sqlite_where=sa.text(f"{is_child} AND {is_open}")
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_index("tasks_open_by_parent", table_name="tasks")
    op.drop_index("tasks_by_parent", table_name="tasks")
    op.drop_column("tasks", "parent")
    op.drop_column("tasks", "target")
