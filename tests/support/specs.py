"""Strategies for tasks."""

from __future__ import annotations

from hypothesis import strategies as st

from broker.messages import Bound, Retry, TaskSpec

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,6}", fullmatch=True)
KINDS = st.from_regex(r"[a-z][a-z0-9_.-]{0,6}", fullmatch=True)
SCALARS = st.booleans() | NUMBERS | TEXTS
BOUNDS = st.builds(
    lambda low, high, options: Bound(min=low, max=high, **{"in": options}),
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    st.none() | st.lists(SCALARS, min_size=1, max_size=3).map(tuple),
)

SPECS: st.SearchStrategy[TaskSpec] = st.builds(
    TaskSpec,
    kind=KINDS,
    params=st.dictionaries(TEXTS, JSON_VALUES, max_size=3),
    requires=st.dictionaries(KEYS, SCALARS | BOUNDS, max_size=2),
    priority=st.integers(-100, 99),
    timeout_seconds=st.none() | st.floats(0.001, 1e6),
    expires_in_seconds=st.none() | st.floats(0.001, 1e6),
    retry=st.builds(Retry, max_attempts=st.integers(1, 100), backoff_seconds=st.floats(0, 86400)),
    idempotent=st.booleans(),
    target=st.sampled_from(["one", "all"]),
    labels=st.dictionaries(KEYS, TEXTS, max_size=2),
)
"""Whatever a task may ask for."""
