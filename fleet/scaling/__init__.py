"""How many workers each pool has: policies that decide, a job that asks them, actuators that act."""
