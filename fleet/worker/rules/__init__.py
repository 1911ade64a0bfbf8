"""Pure decisions about a worker."""
