"""Health checks of the parts of a fleet."""
