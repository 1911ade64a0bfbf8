"""Keeps the beginning and the end of a stream, whatever its length."""

from __future__ import annotations

import asyncio
from collections import deque

CHUNK_BYTES = 64 * 1024


class BoundedText:
    """At most `limit` bytes of what is added: the first half and the last half."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_length = 0
        self._left_out = 0

    def add(self, chunk: bytes) -> None:
        room = self._half - len(self._head)
        self._head += chunk[:room]
        rest = chunk[room:]
        if rest:
            self._tail.append(rest)
            self._tail_length += len(rest)
        while self._tail and self._tail_length - len(self._tail[0]) >= self._half:
            dropped = len(self._tail.popleft())
            self._tail_length -= dropped
            self._left_out += dropped

    def text(self) -> str:
        tail = b"".join(self._tail)
        left_out = self._left_out + max(0, len(tail) - self._half)
        tail = tail[-self._half :] if self._half else b""
        marker = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        return (bytes(self._head) + marker + tail).decode(errors="replace")


async def keep(stream: asyncio.StreamReader, kept: BoundedText) -> None:
    """Read the stream to its end into `kept`: a program is never stopped by a full pipe."""
    while chunk := await stream.read(CHUNK_BYTES):
        kept.add(chunk)
