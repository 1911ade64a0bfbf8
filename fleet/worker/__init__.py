"""A worker's life, from its start to its shutdown."""
