"""The hub's tables, as SQLAlchemy Core has them; `migrations/` makes them.

Times are Unix milliseconds by the hub's clock; those that workers reported are corrected, to within `error_ms`. Where
that is null nobody knows how far they are off. JSON is kept as text, for it is only read back whole.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, text

metadata = MetaData()

BigKey = BigInteger().with_variant(Integer, "sqlite")  # SQLite makes row ids only for INTEGER
"""The type of a growing key, by which lists are ordered and paged."""

tasks = Table(
    "tasks",
    metadata,
    Column("seq", BigKey, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("site", Text),
    Column("pinned", Text),
    Column("priority", Integer, nullable=False),
    Column("idempotent", Boolean, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("backoff_seconds", Float, nullable=False),
    Column("reply", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempt", Integer, nullable=False),
    Column("worker", Text),
    Column("result", Text),
    Column("error", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("expires_ms", BigInteger),
    Column("not_before_ms", BigInteger),
    Column("offered_to", Text),
    Column("cancel_ms", BigInteger),
    Column("target", Text, nullable=False, server_default="one"),
    Column("parent", Text),
    Index("tasks_by_state", "state", "seq"),
    Index("tasks_by_site", "site", "seq"),
    Index("tasks_by_worker", "worker", "seq"),
    Index("tasks_by_kind", "kind", "seq"),
    Index(
        "tasks_at_worker", "worker", sqlite_where=text("state IN ('assigned', 'running', 'unknown')")
    ),  # the few of the many that a worker ever had
    Index("tasks_by_parent", "parent", "seq", sqlite_where=text("parent IS NOT NULL")),
    Index(
        "tasks_open_by_parent",
        "parent",
        sqlite_where=text("parent IS NOT NULL AND state IN ('pending', 'assigned', 'running', 'unknown')"),
    ),  # whether a parent has ended costs the same, however many children it has
)

attempts = Table(
    "attempts",
    metadata,
    Column("task", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("assigned_ms", BigInteger),
    Column("accepted_ms", BigInteger),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("result", Text),
    Column("error", Text),
    Column("progress", Float),
    Column("progress_message", Text),
    Column("superseded", Boolean, nullable=False),
    Column("error_ms", BigInteger),
    sqlite_with_rowid=False,
)

actions = Table(
    "actions",
    metadata,
    Column("seq", BigKey, primary_key=True, autoincrement=True),
    Column("task", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("actions_by_task", "task", "seq"),
)
"""What people did to a task: `cancel`, `retry`, `resolve`, with what they said as JSON."""

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("since_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("session", Text),
    Column("birth", Text),
    Column("heartbeat", Text),
    Column("clocks", Text),
)

streams = Table(
    "streams",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("committed_through", BigInteger, nullable=False),
    Column("boot", Text),
    Column("greeted", Integer),
)
"""How far each journal is committed. Of one worker, the one with the highest `greeted` said hello last."""

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("site", Text),
    Column("worker", Text),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
)
"""What workers fire by themselves: the job as JSON, and for whom it is."""

rejections = Table(
    "rejections",
    metadata,
    Column("seq", BigKey, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("site", Text),
    Column("reported_by", Text, nullable=False),
    Column("task", Text),
    Column("reason", Text, nullable=False),
    Column("problems", Text, nullable=False),
    Column("payload", Text, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("seq", BigKey, primary_key=True, autoincrement=True),
    Column("worker", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("stream_seq", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("reports_by_type", "type", "seq"),
)
"""What was reported and has no table of its own: facts, incidents, gaps, and events of tasks that we do not know."""

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("last_used_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)
"""Who may use the API, and as what: `viewer`, `operator` or `admin`. Of the secret there is only the hash."""

enrolments = Table(
    "enrolments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("worker", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
    Column("used_by", Text),
    Column("nonce_hash", Text),
    Column("revoked_ms", BigInteger),
)
"""One-time tokens that workers trade for accounts. `worker` is the only one that may, where one was named."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("site", Text),
    Column("generation", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)
"""Who may use the broker: the kind says what for. The password follows from the hub's key, name and generation."""

audit = Table(
    "audit",
    metadata,
    Column("seq", BigKey, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("role", Text),
    Column("address", Text),
    Column("action", Text, nullable=False),
    Column("target", Text),
    Column("outcome", Text, nullable=False),
    Column("detail", Text),
)
"""Who did what, and who was refused."""
