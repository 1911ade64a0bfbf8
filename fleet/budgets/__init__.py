"""Budgets: limits, usage counters, reservations, controls, alerts."""
