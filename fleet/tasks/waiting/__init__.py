"""Waiting tasks: queued, delayed, or on hold for room under a limit or for a retry."""
