"""The scheduler with a lease."""
