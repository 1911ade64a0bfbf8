"""Calls of a rotator to a service: JSON over HTTPS, with errors that hold no part of a secret."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

from fleet.errors import InvalidRequest, NotAllowed, SecretsUnavailable
from fleet.settings.addresses import is_loopback

SECONDS = 10.0
MAX_BYTES = 1024 * 1024
"""A longer answer is refused."""
GONE = 404
UNAUTHORIZED = 401
RETRIED = (408, 409, 425, 429)
REFUSED = (401, 403)


def _safe_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    # A host that a secret is part of would send it to the name server.
    if not host or not is_safe or "{" in parts.netloc or parts.username or parts.password:
        raise ValueError("has to be https://HOST/..., or http:// on this machine; correct it")
    return url


SafeUrl = Annotated[str, AfterValidator(_safe_url)]
"""An address at which a secret may be shown: encrypted, or on this machine."""


def call_json(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Any = None,
    allowed: Collection[int] = (),
) -> Any:
    """Call a service and return the JSON of its answer; None if it is empty, or if its status is
    one of `allowed`.

    Raises `SecretsUnavailable` for a service that is away or busy, `NotAllowed` if it refuses the
    key, `InvalidRequest` for all else. The errors name the host and the status alone: an answer, or
    an address, may repeat a key.
    """
    # Imported on use: a worker, which rotates nothing, starts sooner without it.
    import httpx2

    host = urlsplit(url).hostname
    try:
        with httpx2.Client(timeout=SECONDS, follow_redirects=False) as client:
            answer = client.request(method, url, headers=dict(headers), json=body)
    except httpx2.HTTPError as error:
        raise SecretsUnavailable(
            f"{host} does not answer ({type(error).__name__}); try again later"
        ) from None
    except (UnicodeError, ValueError, httpx2.InvalidURL):
        raise InvalidRequest(
            f"the request to {host} cannot be sent: a value holds characters that an address or a "
            "header cannot carry"
        ) from None
    if answer.status_code in allowed:
        return None
    _check(answer.status_code, method, host or "")
    return _parsed(answer.content, host or "")


def _check(status: int, method: str, host: str) -> None:
    if status in REFUSED:
        raise NotAllowed(
            f"{host} refuses the key ({method}: HTTP {status}); check the key and its rights"
        )
    if status in RETRIED or status >= 500:
        raise SecretsUnavailable(f"{host} is busy or broken (HTTP {status}); try again later")
    if not 200 <= status < 300:
        raise InvalidRequest(f"{host} refuses the request ({method}: HTTP {status})")


def _parsed(content: bytes, host: str) -> Any:
    if not content.strip():
        return None
    try:
        if len(content) > MAX_BYTES:
            raise ValueError
        return json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidRequest(
            f"the answer of {host} is no JSON of at most {MAX_BYTES} bytes"
        ) from None


def text_at(answer: Any, place: str, host_of: str) -> str:
    """The text at a dotted place of an answer, such as `api_key.value`. Raises `InvalidRequest`."""
    found = answer
    for part in place.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, str) or not found:
        host = urlsplit(host_of).hostname
        raise InvalidRequest(f"the answer of {host} has no text at {place}")
    return found


def key_of(fields: Mapping[str, str]) -> str:
    """The field `api_key` of a secret. Raises `InvalidRequest`."""
    if not fields.get("api_key"):
        raise InvalidRequest("the secret has no field api_key; set it again with that field")
    return fields["api_key"]


def fits_hint(value: str, hint: Any) -> bool:
    """Whether a key is the one of which a service shows the beginning and the end, such as
    `sk-ant-api03-R2D...igAA`."""
    if not isinstance(hint, str):
        return False
    first, dots, last = hint.partition("...")
    return bool(dots and first and last) and value.startswith(first) and value.endswith(last)
