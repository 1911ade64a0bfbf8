"""A fake of Vault's HTTP API: KV version 2, Transit with associated data, AppRole, Kubernetes.

It keeps to the documented protocol: https://developer.hashicorp.com/vault/api-docs. A clock of its
own decides when tokens end. Transit binds associated data as the real one does, but encrypts
nothing.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

ROLE_ID, SECRET_ID = "role-of-fleet", "secret-id-of-fleet"
JWT = "token-of-the-service-account"
NO_ROUTE = "no handler for route \"{}\". route entry not found."

Answer = tuple[int, dict[str, Any] | None]


@dataclass
class FakeToken:
    """A token: when it ends by the fake's clock, and how often it was renewed."""

    ends_at: float
    renewals: int = 0


@dataclass
class FakeVault:
    """A Vault with a KV engine at `secret` and Transit at `transit`."""

    token_seconds: int = 3600
    #: After so long no renewal helps.
    max_seconds: int = 1_000_000
    #: Answered instead of everything else, as long as it is set.
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: Sent with a status of 200 in place of JSON.
    page: str | None = None
    #: Paths below which the policy denies everything.
    denied: tuple[str, ...] = ()
    now: float = 0.0
    is_sealed: bool = False
    engine_is_version_1: bool = False
    key_version: int = 1
    logins: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: dict[str, FakeToken] = field(default_factory=dict)
    secrets: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body leave in one packet, or the client would wait for the second.
            wbufsize = -1

            def do_GET(self) -> None:
                self._answer("GET", {})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self._answer("POST", json.loads(self.rfile.read(length) or b"{}"))

            def _answer(self, method: str, body: dict[str, Any]) -> None:
                token = self.headers.get("X-Vault-Token") or ""
                with owner.lock:
                    status, found = owner.answer(method, self.path, token, body)
                content = b"" if found is None else json.dumps(found).encode()
                if owner.page is not None:
                    status, content = 200, owner.page.encode()
                self.send_response(status)
                for name, value in owner.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[0.01], daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, target: str, token: str, body: dict[str, Any]) -> Answer:
        """The answer to a request."""
        parts = urlsplit(target)
        path, query = parts.path.removeprefix("/v1/"), parse_qs(parts.query)
        method = "LIST" if query.get("list") == ["true"] else method
        self.requests.append((method, path))
        if self.status is not None:
            return _errors(self.status, "something is wrong")
        if self.is_sealed:
            return _errors(503, "Vault is sealed")
        if login := re.fullmatch(r"auth/([^/]+)/login", path):
            return self._log_in(login[1], body)
        held = self.tokens.get(token)
        if held is None or held.ends_at <= self.now or path.startswith(self.denied or ("\0",)):
            return _errors(403, "permission denied")
        if path == "auth/token/lookup-self":
            return 200, {"data": {"ttl": int(held.ends_at - self.now), "renewable": True}}
        if path == "auth/token/renew-self":
            return self._renew(held)
        if path.startswith("secret/"):
            return self._kv(method, path, query, body)
        if found := re.fullmatch(r"transit/(encrypt|decrypt)/fleet", path):
            return self._transit(found[1], body)
        return _errors(404, NO_ROUTE.format(path))

    def _log_in(self, mount: str, body: dict[str, Any]) -> Answer:
        known = {
            "approle": {"role_id": ROLE_ID, "secret_id": SECRET_ID},
            "kubernetes": {"role": "fleet", "jwt": JWT},
        }
        if mount not in known:
            return _errors(404, NO_ROUTE.format(f"auth/{mount}/login"))
        if body != known[mount]:
            return _errors(400 if mount == "approle" else 403, "invalid role or secret ID")
        self.logins += 1
        return 200, {"auth": {"client_token": self.grant(), **self._lease(self.token_seconds)}}

    def grant(self) -> str:
        """A new token."""
        token = f"hvs.{uuid4().hex}"
        self.tokens[token] = FakeToken(self.now + self.token_seconds)
        return token

    def _renew(self, held: FakeToken) -> Answer:
        held.renewals += 1
        seconds = min(self.token_seconds, self.max_seconds - self.now)
        held.ends_at = self.now + seconds
        return 200, {"auth": self._lease(int(seconds))}

    def _lease(self, seconds: int) -> dict[str, Any]:
        return {"lease_duration": seconds, "renewable": True}

    def _kv(
        self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]
    ) -> Answer:
        if self.engine_is_version_1:
            return (204, None) if method == "POST" else _errors(404)
        kind, _, name = path.removeprefix("secret/").partition("/")
        if method == "LIST":
            return self._list(name)
        if kind == "data" and method == "POST":
            return self._write(name, body)
        versions = self.secrets.get(name)
        if versions is None:
            return (204, None) if kind == "destroy" else _errors(404)
        if kind == "data":
            number = int(query.get("version", ["0"])[0]) or max(versions)
            if number not in versions:
                return _errors(404)
            found = versions[number]
            metadata = {"version": number, **_without_data(found)}
            status = 404 if found["data"] is None else 200
            return status, {"data": {"data": found["data"], "metadata": metadata}}
        if kind == "metadata":
            facts = {str(number): _without_data(each) for number, each in versions.items()}
            return 200, {"data": {"current_version": max(versions), "versions": facts}}
        if kind == "destroy":
            for number in body["versions"]:
                if number in versions:
                    versions[number] |= {"data": None, "destroyed": True}
            return 204, None
        return _errors(404, NO_ROUTE.format(path))

    def _write(self, name: str, body: dict[str, Any]) -> Answer:
        versions = self.secrets.get(name, {})
        newest = max(versions, default=0)
        if body["options"].get("cas", newest) != newest:
            return _errors(400, "check-and-set parameter did not match the current version")
        made = datetime.now(UTC).isoformat().replace("+00:00", "789Z")
        facts = {"created_time": made, "deletion_time": "", "destroyed": False}
        self.secrets.setdefault(name, {})[newest + 1] = {"data": body["data"], **facts}
        return 200, {"data": {"version": newest + 1, **facts}}

    def _list(self, folder: str) -> Answer:
        folder = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
        below = (name.removeprefix(folder) for name in self.secrets if name.startswith(folder))
        keys = {rest.partition("/")[0] + ("/" if "/" in rest else "") for rest in below}
        return (200, {"data": {"keys": sorted(keys)}}) if keys else _errors(404)

    def _transit(self, what: str, body: dict[str, Any]) -> Answer:
        bound = body.get("associated_data") or ""
        if what == "encrypt":
            hidden = base64.b64encode(json.dumps([bound, body["plaintext"]]).encode()).decode()
            return 200, {"data": {"ciphertext": f"vault:v{self.key_version}:{hidden}"}}
        sealed_for, plaintext = json.loads(base64.b64decode(body["ciphertext"].split(":")[2]))
        if sealed_for != bound:
            return _errors(400, "cipher: message authentication failed")
        return 200, {"data": {"plaintext": plaintext}}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _without_data(version: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in version.items() if name != "data"}


def _errors(status: int, *errors: str) -> Answer:
    return status, {"errors": list(errors)}
