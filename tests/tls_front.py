"""TLS in front of a server that speaks none: it ends TLS and passes the bytes on.

The Valkey that the tests bring along is built without TLS. The client's side is real: certificates,
their checks, and what goes over the wire.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from certificates import Signed

CHUNK = 65536


class TlsFront:
    """Takes those alone who show a certificate that `clients` has signed."""

    def __init__(self, target: int, own: Signed, clients: Path) -> None:
        self.target = target
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients))
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_cert_chain(own.certificate, own.key)
        self.loop = asyncio.new_event_loop()
        self.port = 0

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=[ready], daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        # Who has no certificate is turned away; that is no news.
        self.loop.set_exception_handler(lambda loop, context: None)
        opening = asyncio.start_server(self._meet, "127.0.0.1", 0, ssl=self.context)
        server = self.loop.run_until_complete(opening)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        server.close()
        self.loop.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()
