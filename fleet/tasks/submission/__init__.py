"""Submission: checks, plan, reservation, and one atomic script in Redis."""
