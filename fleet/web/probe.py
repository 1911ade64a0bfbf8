"""`python -m fleet.web.probe`: exit status 0 if Flower answers on FLEET_FLOWER_PORT here, else 1.

For the probes of Kubernetes, which cannot send a password from a Secret. That Flower asks for the
login shows that it serves.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

SECONDS = 3.0


def answers(port: int) -> bool:
    """Whether Flower answers on a port of this machine."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status in (200, 401)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(int(os.environ.get("FLEET_FLOWER_PORT", "0"))) else 1)
