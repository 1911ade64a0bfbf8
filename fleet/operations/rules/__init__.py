"""Pure decisions about a fleet's operation."""
