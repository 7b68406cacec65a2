"""What a worker fires by itself: jobs of its file, of its handlers, and those that the hub has pushed (decision 11)."""
