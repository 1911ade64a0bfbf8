"""The kombu transport: publishing, fetching, acknowledging, and what no worker can take."""
