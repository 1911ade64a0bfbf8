"""The kombu transport: publishing, fetching, acknowledging, and malformed messages."""
