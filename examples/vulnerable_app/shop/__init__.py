"""A small shop with planted holes. Deliberately unsafe: never deploy it, never copy from it."""
