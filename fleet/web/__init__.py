"""Pages for people: Flower."""
