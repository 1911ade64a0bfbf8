"""The parts of `money.py`."""
