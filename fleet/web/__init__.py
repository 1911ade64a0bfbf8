"""Web pages: Flower."""
