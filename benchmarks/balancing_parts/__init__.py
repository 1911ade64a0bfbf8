"""The parts of `balancing.py`."""
