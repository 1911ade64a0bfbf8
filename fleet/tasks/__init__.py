"""Tasks: submission, lease, run, retries, dead letters, schedule, reaper."""
