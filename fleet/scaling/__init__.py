"""How many workers each pool has: policies decide, a job asks them, actuators act."""
