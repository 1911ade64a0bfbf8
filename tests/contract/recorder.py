"""A fake of any provider: an HTTP server that notes requests and gives all the same answer, as JSON
or as a stream."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: its path, its headers by lower-case name, its parsed body."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class Recorder:
    """Where the server listens, and what came in, oldest first. `body` is what it answers."""

    url: str = ""
    body: Mapping[str, Any] | Stream = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    sent: threading.Event = field(default_factory=threading.Event)
    """Whether all frames of a stream were sent."""
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Whether a client has closed a stream that was open."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The frames of an answer. It `ends` in order, by a connection that breaks (`cut`), or not
    before the client hangs up (`open`)."""

    frames: Sequence[bytes]
    content_type: str
    ends: Literal["well", "cut", "open"] = "well"


@contextmanager
def recorder(
    body: Mapping[str, Any] | Stream,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Recorder]:
    """Serve on a free port of the loopback interface."""
    found = Recorder(body=body)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = {name.lower(): value for name, value in self.headers.items()}
            found.seen.append(Seen(self.path, names, asked))
            if isinstance(found.body, Stream):
                # A client may have read enough.
                with suppress(ConnectionError):
                    self._stream(found.body)
                return
            content = json.dumps(found.body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, stream: Stream) -> None:
            self.send_response(200)
            self.send_header("Content-Type", stream.content_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for frame in stream.frames:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                self.wfile.flush()
            found.sent.set()
            self.close_connection = True
            if stream.ends == "open":
                self._await_hang_up()
            elif stream.ends == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(b"0\r\n\r\n")

        def _await_hang_up(self) -> None:
            # A client that has asked sends no more: what can be read is the end.
            self.connection.settimeout(10)
            with suppress(ConnectionError):
                self.connection.recv(1)
            found.hung_up.set()

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
