"""Addresses as people may see them."""

from __future__ import annotations

from urllib.parse import urlsplit

STARS = "**********"


def masked(url: str) -> str:
    """An address with stars for the user and password that it may hold."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{STARS}@{host}").geturl() if at else url
