"""The parts of the benchmark of rotations."""
