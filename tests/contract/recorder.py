"""A fake of any provider: an HTTP server that notes requests and gives all the same answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: its path, its headers by lower-case name, its parsed body."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class Recorder:
    """Where the server listens, and what came in, oldest first."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)


@contextmanager
def recorder(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Iterator[Recorder]:
    """Serve on a free port of the loopback interface."""
    found = Recorder()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = {name.lower(): value for name, value in self.headers.items()}
            found.seen.append(Seen(self.path, names, asked))
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

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
