"""Price data as documents: fetched, checked, stored in the data folder, and packed for sharing.

A stored document has the text that genai-prices publishes, the release of genai-prices that was
installed when it was fetched, and the time. It is newer than the data of that release.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

from fleet.errors import InvalidConfig, InvalidRequest, Unavailable
from fleet.outside import first_line
from fleet.settings.addresses import masked
from fleet.settings.data_folder import make_private

# Imported where it is used: see `fleet.models.prices`.
if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

PRICES_FILE = "prices.json"
FETCH_SECONDS = 20.0
MAX_BYTES = 64 * 1024 * 1024
MAX_PACKED_BYTES = 4 * 1024 * 1024
"""Forty times the size of genai-prices' data. The document is in Redis and each process
reads it."""
SCHEMES = ("http://", "https://")
NO_PROVIDERS = (AttributeError, KeyError, TypeError, ValueError)
"""The errors of reading a document that is no price data."""
NOT_KEPT = (*NO_PROVIDERS, RecursionError, InvalidRequest)
"""The errors of reading a stored document that is none."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored document: its place, its data, the time it was fetched, and the release installed
    then."""

    place: str
    snapshot: DataSnapshot
    fetched_at: datetime
    release: str


def installed_release() -> str:
    """The release of genai-prices that is installed."""
    return version("genai-prices")


def installed_at() -> datetime:
    """When genai-prices was installed. Its data is older than that."""
    import genai_prices

    return datetime.fromtimestamp(Path(genai_prices.__file__).stat().st_mtime, UTC)


def fetched(url: str) -> Any:
    """The document at an address. A user and password in the address appear in no error.

    Raises `InvalidRequest` for another scheme than HTTP, `Unavailable` if there is no document.
    """
    request = _request(url)
    url = request.full_url
    try:
        # `_request` has refused every scheme but http and https.
        with urllib.request.urlopen(  # noqa: S310  # nosec B310
            request, timeout=FETCH_SECONDS
        ) as answer:
            content = answer.read(MAX_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        raise Unavailable(
            f"fetching prices from {masked(url)} failed ({_cause(error)}); the present prices "
            "stay. Without a network, copy a file here and pass it with --from"
        ) from None
    if len(content) > MAX_BYTES:
        raise Unavailable(
            f"{masked(url)}: sent more than {MAX_BYTES:,} bytes, which is no price data"
        )
    try:
        return _document(content, masked(url))
    except InvalidRequest as error:
        raise Unavailable(f"{error}; the present prices stay") from error


def _cause(error: Exception) -> str:
    """The status of an answer without the server's words for it, or the reason for no answer."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return first_line(str(getattr(error, "reason", error)))


def _request(url: str) -> urllib.request.Request:
    """The request for an address, with its user and password in the HTTP header for them."""
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
        # A redirect does not pass them on.
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def read_given(path: Path) -> Any:
    """The document in a file, also in a file stored by another machine. Raises `InvalidRequest`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read ({error.strerror}); name another") from error
    document = _document(content, str(path))
    return document.get("providers") if isinstance(document, dict) else document


def parsed(document: Any, source: str) -> DataSnapshot:
    """Price data from a document. Raises `InvalidRequest` if the document is something else."""
    if not isinstance(document, list) or not document:
        raise InvalidRequest(f"{source}: is no price data of genai-prices: not a list of providers")
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import _providers_from_raw

    try:
        # The public function, `UpdatePrices.fetch`, only reads from the network and keeps no text.
        providers = _providers_from_raw(document)
    except (*NO_PROVIDERS, AssertionError, RecursionError) as error:
        first = first_line(str(error)) or type(error).__name__
        raise InvalidRequest(f"{source}: is no price data of genai-prices: {first}") from error
    return DataSnapshot(providers, from_auto_update=True)


def document_text(document: Any, source: str, now: datetime) -> bytes:
    """The stored text of a checked document. `now` is the time when it was fetched."""
    kept = {
        "release": installed_release(),
        "fetched_at": now.astimezone(UTC).isoformat(),
        "source": source,
        "providers": document,
    }
    return json.dumps(kept).encode()


def store(data_dir: Path, document: Any, source: str) -> Path:
    """Store a checked document, fetched now. The file appears complete or not at all."""
    return store_text(data_dir, document_text(document, source, datetime.now(UTC)))


def store_text(data_dir: Path, content: bytes) -> Path:
    """Store a `document_text`. The file appears complete or not at all."""
    make_private(data_dir)
    descriptor, name = tempfile.mkstemp(dir=data_dir, prefix=PRICES_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return Path(name).replace(data_dir / PRICES_FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def packed(content: bytes, source: str) -> bytes:
    """A `document_text`, compressed. Raises `InvalidRequest` if it is too large to share."""
    found = zlib.compress(content)
    if len(content) > MAX_BYTES or len(found) > MAX_PACKED_BYTES:
        raise InvalidRequest(
            f"{source}: has {len(content):,} bytes, {len(found):,} compressed; a fleet shares at "
            f"most {MAX_BYTES:,} and {MAX_PACKED_BYTES:,}. Leave out models that it does not use"
        )
    return found


def unpacked(found: bytes, place: str) -> Stored:
    """The document from its packed form. Raises `InvalidConfig` for anything else."""
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(found[: MAX_PACKED_BYTES + 1], MAX_BYTES)
        if len(found) > MAX_PACKED_BYTES or not reader.eof:
            raise ValueError("too large, or cut off")
        return _stored(content, place)
    except (zlib.error, *NOT_KEPT) as error:
        raise InvalidConfig(
            f"{place}: cannot be read ({error}); run `fleet models refresh`"
        ) from error


def read_stored(data_dir: Path) -> Stored | None:
    """The document stored here, or None. Raises `InvalidConfig` for a file that cannot be read."""
    path = data_dir / PRICES_FILE
    try:
        return _stored(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except (OSError, *NOT_KEPT) as error:
        raise InvalidConfig(
            f"{path}: cannot be read ({error}); run `fleet models refresh`, or delete it"
        ) from error


def _stored(content: bytes, place: str) -> Stored:
    """A stored document. Raises one of `NOT_KEPT`."""
    kept = json.loads(content)
    fetched_at = datetime.fromisoformat(kept["fetched_at"])
    if fetched_at.tzinfo is None:
        raise ValueError("its time has no offset")
    return Stored(place, parsed(kept["providers"], place), fetched_at, str(kept["release"]))


def _document(content: bytes, source: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{source}: is no price data of genai-prices: {error}") from error
