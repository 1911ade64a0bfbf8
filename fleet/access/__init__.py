"""Tenants, roles and tokens: who may do what with a fleet."""
