"""Secrets: where they are stored, who reads them, and how they are rotated."""
