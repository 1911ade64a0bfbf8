"""Pure rules of secrets."""
