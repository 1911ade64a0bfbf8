"""The leased scheduler."""
