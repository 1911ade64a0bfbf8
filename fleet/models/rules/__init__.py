"""Pure decisions about models."""
