"""Deciding, apart from doing: pure functions of a state, an event and a time."""
