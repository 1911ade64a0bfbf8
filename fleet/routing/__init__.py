"""Routing: pools, agents, strategies, health, snapshot."""
