"""Examples of finished tasks for learning difficulty: the newest twelve thousand, without payloads.

Each is about 1.2 KiB, the sketch of its text for the most part, so all of them take some 15 MB.
What one model does better than another shows in many outcomes only, each being of one model.
An example that was sent twice after a lost answer counts twice, which does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fleet.errors import InvalidRequest
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

MAX_EXAMPLES = 12_000
PAGE = 500
"""Examples in one answer: some 600 KB, which keeps Redis busy for a millisecond or two."""


class Example(NamedTuple):
    """One task's request type, the model that answered, its reward (0 to 1), and its sketch."""

    request_type: str
    model: str
    reward: float
    sketch: bytes


class Examples(Store):
    """Adds to the examples, and reads them."""

    def add(self, request_type: str, model: str, reward: float, sketch: bytes) -> None:
        """Keep one; the oldest goes where there are too many. One call to Redis.

        Raises `InvalidRequest` for a reward outside 0..1.
        """
        if not 0.0 <= reward <= 1.0:
            raise InvalidRequest(f"the reward is {reward!r}; give a number from 0 to 1")
        fields: dict[Any, Any] = {
            "type": request_type,
            "model": model,
            "reward": repr(float(reward)),
            "sketch": sketch,
        }
        with redis_errors(self.client):
            self.client.xadd(self.keys.examples, fields, maxlen=MAX_EXAMPLES, approximate=False)

    def read(self) -> list[Example]:
        """All of them, oldest first. One call to Redis for each `PAGE`."""
        return [_example(fields) for page in self._pages() for _, fields in page]

    def _pages(self) -> Iterator[list[tuple[bytes, dict[bytes, bytes]]]]:
        after = "-"
        while True:
            with redis_errors(self.client):
                page: Any = self.client.xrange(self.keys.examples, min=after, count=PAGE)
            yield page
            if len(page) < PAGE:
                return
            after = f"({text(page[-1][0])}"


def _example(fields: dict[bytes, bytes]) -> Example:
    return Example(
        text(fields[b"type"]),
        text(fields[b"model"]),
        float(fields[b"reward"]),
        fields[b"sketch"],
    )
