"""The versioned policy that producers follow, and its audit."""
