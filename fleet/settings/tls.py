"""What can be wrong with TLS, said at once and by name."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.errors import InvalidConfig
from fleet.settings.addresses import FILES

CHECK = "check ssl_ca_certs, ssl_certfile and ssl_keyfile in FLEET_BROKER_URL"


def check_files(tls: Mapping[str, Any] | None) -> None:
    """Raise `InvalidConfig` for a certificate or key that is not there."""
    for name in FILES:
        path = (tls or {}).get(name)
        if path is not None and not Path(path).is_file():
            raise InvalidConfig(f"FLEET_BROKER_URL: {name}: there is no file {path}; correct it")


def tls_error(error: BaseException | None) -> str:
    """What TLS had against the other side; empty where it had nothing."""
    while error is not None:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return ""
        if isinstance(error, ssl.SSLError):
            return str(error.reason or error)
        error = error.__cause__ or error.__context__
    return ""
