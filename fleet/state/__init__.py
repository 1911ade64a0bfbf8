"""Redis, and nothing else: key names, scripts, and the values that they read and write."""
