"""The processes of the benchmark of learned concurrency."""
