"""The price data that all processes of the fleet share: a document and its version.

    {fleet}:prices   version   the SHA-256 of the document, in hexadecimal digits
                     document  compressed bytes: see `fleet.models.price_files`
    {fleet}:models   prices    the version again

Every process reads the models' hash anyway: with a submission at most once a second, and before
each model call. So it notices a new document without a read of its own.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from fleet.models.store import PRICES
from fleet.redis.client import redis_errors
from fleet.redis.scripts import raw, text
from fleet.redis.store import Store

VERSION = "version"
DOCUMENT = "document"


class SharedPrices(Store):
    """Writes and reads the document. Every method is one call to Redis."""

    def now(self) -> datetime:
        """The time by Redis's clock."""
        return datetime.fromtimestamp(self.now_us() / 1e6, UTC)

    def put(self, document: bytes) -> None:
        """Share a checked document. Document and version appear together."""
        version = hashlib.sha256(document).hexdigest()
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hset(self.keys.prices, mapping={VERSION: version, DOCUMENT: document})
            pipeline.hset(self.keys.models, PRICES, version)
            pipeline.execute()

    def read(self) -> bytes | None:
        """The shared document; None if there is none, b"" if it is damaged."""
        with redis_errors(self.client):
            version, document = self.client.hmget(self.keys.prices, VERSION, DOCUMENT)
        if version is None and document is None:
            return None
        found = raw(document or b"")
        return found if hashlib.sha256(found).hexdigest() == text(version or b"") else b""
