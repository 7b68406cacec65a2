"""The hub: sends tasks, keeps what workers report, and shows the fleet."""
