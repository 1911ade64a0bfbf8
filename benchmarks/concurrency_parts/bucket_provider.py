"""A fake provider of models that counts requests in a token bucket, in a process of its own.

It speaks OpenAI's protocol. A request takes a token and is answered after a random time; without a
token it is refused at once with HTTP 429 and a Retry-After in whole seconds. `GET /counts` has what
it served and refused so far; `GET /fill` fills the bucket and forgets the counts.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time

SIGMA = 0.5
"""The spread of the times, whose logarithm has a normal distribution."""


class Bucket:
    """Tokens that come in at a rate, up to a number that it holds. Full at first."""

    def __init__(self, rate: float, size: float) -> None:
        self.rate = rate
        self.size = size
        self.tokens = size
        self.at = time.monotonic()

    def take(self) -> float:
        """Take a token: 0, or the seconds until there is one."""
        now = time.monotonic()
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate


class Provider:
    """Serves one rate for all requests. `seconds` is the mean time of an answer."""

    def __init__(self, rate: float, size: float, seconds: float) -> None:
        self.bucket = Bucket(rate, size)
        self.mean_log = math.log(seconds) - SIGMA**2 / 2
        self.rng = random.Random(1)
        self.counts = {"served": 0, "refused": 0}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(_length(head))
                writer.write(await self.answer(head.split(b" ", 2)[1].decode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str) -> bytes:
        """The response to a request."""
        if path == "/counts":
            return _response(200, self.counts)
        if path == "/fill":
            self.bucket.tokens = self.bucket.size
            self.counts = {"served": 0, "refused": 0}
            return _response(200, {})
        wait = self.bucket.take()
        if wait:
            self.counts["refused"] += 1
            error = {"message": "Rate limit reached", "code": "rate_limit_exceeded"}
            return _response(429, {"error": error}, f"retry-after: {math.ceil(wait)}\r\n")
        self.counts["served"] += 1
        await asyncio.sleep(self.rng.lognormvariate(self.mean_log, SIGMA))
        message = {"role": "assistant", "content": "done"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        return _response(200, {**body, "choices": [choice], "usage": usage})


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _response(status: int, body: object, more: str = "") -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(text)}\r\n\r\n".encode() + text


async def main(rate: float, size: float, seconds: float) -> None:
    """Serve until the process ends. Prints the port first."""
    server = await asyncio.start_server(Provider(rate, size, seconds).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(float, sys.argv[1:])))
