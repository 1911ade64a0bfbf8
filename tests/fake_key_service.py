"""A fake of services that hand out API keys: a real HTTP server with the parts of three APIs.

    OpenAI      /v1/organization/projects/PROJECT/service_accounts and /api_keys, /v1/models
    Anthropic   /v1/organizations/api_keys, /v1/models (with x-api-key)
    of its own  /keys: POST makes a key, once for each name; DELETE /keys/ID; GET /whoami

It knows what their documents say, and nothing more. Anthropic's makes no keys: a test does.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

ADMIN_KEY = "admin-canary-51c9"
PROJECT = "proj_abc"


@dataclass
class Key:
    """A key of the service: its id, its value, and the account or name it belongs to."""

    id: str
    value: str
    name: str
    active: bool = True

    @property
    def hint(self) -> str:
        return f"{self.value[:12]}...{self.value[-4:]}"


@dataclass
class FakeKeyService:
    """The server. `fails_with` makes each request fail with this HTTP status."""

    keys: list[Key] = field(default_factory=list)
    fails_with: int = 0
    #: Called for each request to /whoami or /v1/models, before the answer.
    on_use: Callable[[], None] = lambda: None
    paths: list[str] = field(default_factory=list)

    def make_key(self, name: str) -> Key:
        """A new active key."""
        key = Key(f"key_{uuid4().hex[:8]}", f"sk-canary-{uuid4().hex}", name)
        self.keys.append(key)
        return key

    @property
    def accepted(self) -> list[str]:
        """The values that the service accepts."""
        return [key.value for key in self.keys if key.active]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    service: FakeKeyService
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def _answer(self, act: Callable[[list[str], Any], tuple[int, Any]]) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        self.service.paths.append(self.path)
        if self.service.fails_with:
            # Like some services, it repeats what it was sent.
            status, answer = self.service.fails_with, {"error": dict(self.headers)}
        else:
            status, answer = act(urlsplit(self.path).path.strip("/").split("/"), body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _get(self, path: list[str], body: Any) -> tuple[int, Any]:
        if path in (["whoami"], ["v1", "models"]):
            self.service.on_use()
            accepted = self._key in self.service.accepted
            return (200, {"data": []}) if accepted else (401, {"error": {"key": self._key}})
        if self._key != ADMIN_KEY:
            return 401, {"error": {"key": self._key}}
        if path[-1] == "service_accounts":
            return 200, self._page([{"id": k.id, "name": k.name} for k in self._active()])
        if path == ["v1", "organizations", "api_keys"]:
            return 200, self._page([self._anthropic(key) for key in self.service.keys])
        if path[-1] == "api_keys":
            return 200, self._page([{"id": k.id, "redacted_value": k.hint} for k in self._active()])
        return 404, {}

    def _post(self, path: list[str], body: Any) -> tuple[int, Any]:
        if self._key != ADMIN_KEY:
            return 401, {"error": {"key": self._key}}
        if path[-1] == "service_accounts":
            key = self.service.make_key(body["name"])
            return 200, {"id": key.id, "name": key.name, "api_key": {"value": key.value}}
        if path == ["keys"]:
            known = [key for key in self._active() if key.name == body["name"]]
            key = known[0] if known else self.service.make_key(body["name"])
            return 201, {"key": {"value": key.value, "id": key.id}}
        for key in self._named(path[-1]):
            key.active = body["status"] == "active"
            return 200, self._anthropic(key)
        return 404, {}

    def _delete(self, path: list[str], body: Any) -> tuple[int, Any]:
        if self._key != ADMIN_KEY:
            return 401, {"error": {"key": self._key}}
        for key in self._named(path[-1]):
            if key.active:
                key.active = False
                return 200, {"id": key.id, "deleted": True}
        return 404, {}

    def _page(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A page of at most `limit` rows after a row, two at most so that there are several."""
        asked = parse_qs(urlsplit(self.path).query)
        after = (asked.get("after") or asked.get("after_id") or [""])[0]
        ids = [row["id"] for row in rows]
        first = ids.index(after) + 1 if after in ids else 0
        page = rows[first : first + min(2, int(asked.get("limit", ["20"])[0]))]
        return {
            "data": page,
            "has_more": first + len(page) < len(rows),
            "last_id": page[-1]["id"] if page else None,
        }

    def _active(self) -> list[Key]:
        return [key for key in self.service.keys if key.active]

    def _named(self, key_id: str) -> Iterator[Key]:
        return (key for key in self.service.keys if key.id == key_id)

    def _anthropic(self, key: Key) -> dict[str, Any]:
        status = "active" if key.active else "inactive"
        return {"id": key.id, "name": key.name, "partial_key_hint": key.hint, "status": status}

    @property
    def _key(self) -> str:
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or bearer
