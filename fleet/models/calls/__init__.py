"""Calls to model providers, whole and streamed."""
