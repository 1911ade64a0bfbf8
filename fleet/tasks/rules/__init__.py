"""Pure decisions about tasks."""
