"""A fake model provider that makes and revokes its own keys, and counts what a key meets.

    POST /keys             makes a key, once for each name (with the administration's key)
    DELETE /keys/ID        revokes it
    GET /whoami            tells whether a key is valid
    POST /v1/chat/completions   answers after a while, in OpenAI's protocol

A call is refused if its key is not valid when it arrives. It is cut if its key is revoked before it
is answered: then it gets HTTP 401 too, as from a provider that checks at the end.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import uuid4

ADMIN_KEY = "administration"
SHORTEST, LONGEST = 0.05, 0.75
"""Seconds that a call takes."""


class KeyProvider:
    """The provider. Its counts are complete when no call is in progress."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._valid: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.used: set[str] = set()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def make(self, name: str) -> tuple[str, str]:
        """The id and the value of a key, a new one unless the name is known."""
        with self._lock:
            value = self._names.setdefault(name, f"sk-{uuid4().hex}")
            key_id = f"key-{name}"
            self._valid[value] = key_id
            return key_id, value

    def revoke(self, key_id: str) -> bool:
        """Refuse a key from now on. False if it is refused already."""
        with self._lock:
            found = [value for value, known in self._valid.items() if known == key_id]
            for value in found:
                del self._valid[value]
            return bool(found)

    def is_valid(self, value: str) -> bool:
        with self._lock:
            return value in self._valid

    def call(self, value: str) -> bool:
        """A model call. Whether it is answered."""
        with self._lock:
            self.used.add(value)
            seconds = self._rng.uniform(SHORTEST, LONGEST)
            outcome = "calls" if value in self._valid else "refused"
            self.counts[outcome] += 1
        if outcome == "refused":
            return False
        time.sleep(seconds)
        if not self.is_valid(value):
            with self._lock:
                self.counts["cut"] += 1
            return False
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class _Handler(BaseHTTPRequestHandler):
    provider: KeyProvider
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200 if self.provider.is_valid(self._key) else 401, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/keys" and self._key == ADMIN_KEY:
            key_id, value = self.provider.make(body["name"])
            self._send(200, {"id": key_id, "value": value})
        elif self.path == "/v1/chat/completions" and self.provider.call(self._key):
            self._send(200, _completion(body["model"]))
        else:
            self._send(401, {"error": {"message": "no", "type": "invalid_request_error"}})

    def do_DELETE(self) -> None:
        known = self._key == ADMIN_KEY and self.provider.revoke(self.path.rpartition("/")[2])
        self._send(200 if known else 404, {})

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @property
    def _key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


def _completion(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi"}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }
