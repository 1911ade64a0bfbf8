"""Language models: catalogue, choice, learning, prices, providers, calls."""
