"""Price data as files: fetched, checked, kept in the data folder, read again.

What is stored is the text that genai-prices publishes, with the release that was installed when
it came. It is newer than the data of that release; once another is installed it does not count
any more, since nothing in either says which is older.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import _providers_from_raw
from genai_prices.update_prices import DEFAULT_UPDATE_URL

from fleet.errors import InvalidConfig, InvalidRequest, Unavailable
from fleet.settings.addresses import masked

__all__ = [
    "DEFAULT_UPDATE_URL",
    "Stored",
    "fetched",
    "installed_release",
    "parsed",
    "read_given",
    "read_stored",
    "store",
]

PRICES_FILE = "prices.json"
FETCH_SECONDS = 20.0
MOST_BYTES = 64 * 1024 * 1024
SCHEMES = ("http://", "https://")
NO_PROVIDERS = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a document raises that is something else."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored file: its data, when it was fetched, and beside which release."""

    path: Path
    snapshot: DataSnapshot
    fetched_at: str
    release: str


def installed_release() -> str:
    """The release of genai-prices that is installed."""
    return version("genai-prices")


def fetched(url: str) -> Any:
    """The document at an address, which may hold a user and a password; no error shows them.

    Raises `InvalidRequest` for another scheme than HTTP, `Unavailable` where no document is had.
    """
    request = _request(url)
    url = request.full_url
    try:
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:  # noqa: S310
            content = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        raise Unavailable(
            f"no prices can be had from {masked(url)} ({getattr(error, 'reason', error)}); those "
            "that are here stay. Where there is no network, bring a file and give it with --from"
        ) from error
    if len(content) > MOST_BYTES:
        raise Unavailable(
            f"{masked(url)}: sent more than {MOST_BYTES:,} bytes, which is no price data"
        )
    try:
        return _document(content, masked(url))
    except InvalidRequest as error:
        raise Unavailable(f"{error}; the prices that are here stay") from error


def _request(url: str) -> urllib.request.Request:
    """The request for an address, with its user and password in a header as HTTP wants them."""
    if not url.startswith(SCHEMES):
        raise InvalidRequest(f"--url: give an address that begins with {' or '.join(SCHEMES)}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidRequest("--url: is no address; check its brackets") from None
    user, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())  # noqa: S310
    if at:
        basic = b64encode(unquote_to_bytes(user)).decode()
        # A server that sends us elsewhere does not send them along.
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def read_given(path: Path) -> Any:
    """The document in a file, also one that another machine stored. Raises `InvalidRequest`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read ({error.strerror}); name another") from error
    document = _document(content, str(path))
    return document.get("providers") if isinstance(document, dict) else document


def parsed(document: Any, source: str) -> DataSnapshot:
    """Price data from a document. Raises `InvalidRequest` where it is something else."""
    if not isinstance(document, list) or not document:
        raise InvalidRequest(f"{source}: is no price data of genai-prices: not a list of providers")
    try:
        # The public way, `UpdatePrices.fetch`, reads from the network alone and keeps no text.
        providers = _providers_from_raw(document)
    except (*NO_PROVIDERS, AssertionError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidRequest(f"{source}: is no price data of genai-prices: {first}") from error
    return DataSnapshot(providers, from_auto_update=True)


def store(data_dir: Path, document: Any, source: str) -> Path:
    """Keep a document that was checked. The file appears complete or not at all."""
    kept = {
        "release": installed_release(),
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": source,
        "providers": document,
    }
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=data_dir, prefix=PRICES_FILE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(kept, file)
        return Path(name).replace(data_dir / PRICES_FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_stored(data_dir: Path) -> Stored | None:
    """What was stored here, or None. Raises `InvalidConfig` for a file that cannot be read."""
    path = data_dir / PRICES_FILE
    try:
        kept = json.loads(path.read_bytes())
        snapshot = parsed(kept["providers"], str(path))
        return Stored(path, snapshot, str(kept["fetched_at"]), str(kept["release"]))
    except FileNotFoundError:
        return None
    except (OSError, *NO_PROVIDERS, RecursionError, InvalidRequest) as error:
        raise InvalidConfig(
            f"{path}: cannot be read ({error}); run `fleet models refresh`, or delete it"
        ) from error


def _document(content: bytes, source: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{source}: is no price data of genai-prices: {error}") from error
