"""`python -m fleet.web.probe`: exit status 0 if the HTTP server of this container answers, else 1.

It asks the ops endpoint on FLEET_OPS_PORT, or else Flower on FLEET_FLOWER_PORT. For the probes of
Kubernetes, which cannot send a password from a Secret. That Flower asks for the login shows that it
serves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

SECONDS = 3.0
PAGES = {
    "FLEET_OPS_PORT": ("/health", (200,)),
    "FLEET_FLOWER_PORT": ("/healthcheck", (200, 401)),
}
"""What is asked, and which answers show that it serves."""


def answers(environment: Mapping[str, str]) -> bool:
    """Whether the server whose port the environment names answers on this machine."""
    named = next((name for name in PAGES if environment.get(name, "").isdigit()), None)
    if named is None:
        return False
    path, good = PAGES[named]
    connection = HTTPConnection("127.0.0.1", int(environment[named]), timeout=SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status in good
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(os.environ) else 1)
