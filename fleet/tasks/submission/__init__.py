"""Submitting: checks, plan, reservation, and one atomic step in Redis."""
