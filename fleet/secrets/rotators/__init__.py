"""Fleet's own rotators, by the services whose keys they turn over."""
