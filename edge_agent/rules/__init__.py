"""What an agent decides: pure functions of state, event and time, with no clock, socket, file or randomness."""
