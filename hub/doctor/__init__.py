"""`edge-hub doctor`: looks at everything that a hub depends on, and says what to do about what is amiss."""
