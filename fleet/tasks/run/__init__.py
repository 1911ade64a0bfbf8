"""One run of a task: its model calls, their billing, its outcome."""
