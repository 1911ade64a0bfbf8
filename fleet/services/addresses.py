"""Addresses as people may see them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

STARS = "**********"
SECRET_OPTION = re.compile(r"([^=&]*(?:user|password|token|secret)[^=&]*=)[^&]*", re.IGNORECASE)


def masked(url: str) -> str:
    """An address with stars for the users and passwords that it may hold."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    place = f"{STARS}@{host}" if at else host
    query = SECRET_OPTION.sub(lambda found: found[1] + STARS, parts.query)
    return parts._replace(netloc=place, query=query).geturl()
