"""Whether the parts of a fleet answer."""
