"""A fake of the Kubernetes API: scales of Deployments, annotations of pods, Secrets, over HTTP.

It keeps to the documented protocol and decides nothing by itself: `settle` does what the
controllers of a cluster would do. It ends the pods of the lowest deletion cost.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

SCALE = re.compile(r"^/apis/apps/v1/namespaces/fleet/deployments/([^/?]+)/scale(\?.*)?$")
POD = re.compile(r"^/api/v1/namespaces/fleet/pods/([^/?]+)(\?.*)?$")
SECRET = re.compile(r"^/api/v1/namespaces/fleet/secrets(/([^/?]+))?(\?.*)?$")
NAME = re.compile(r"[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?")
COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass
class FakePod:
    """A pod. One that is ending is still there, and is no replica."""

    annotations: dict[str, str] = field(default_factory=dict)
    is_ending: bool = False


class FakeKubernetes:
    """A cluster with the namespace `fleet`. `requests` has each method and path."""

    def __init__(self) -> None:
        self.deployments: dict[str, int] = {}
        self.pods: dict[str, dict[str, FakePod]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        #: Counts the writes of Secrets: their resource versions.
        self.writes = 0
        self.lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []
        #: Answered instead, as long as it is set: 401, 403, 500.
        self.refusal: int | None = None
        #: Answers that the client's schema does not allow.
        self.is_garbled = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body leave in one packet, or the client would wait for the second.
            wbufsize = -1

            def do_GET(self) -> None:
                self._answer(*owner.read(self.path))

            def do_POST(self) -> None:
                self._answer(*owner.put(self.path, self._body()))

            do_PUT = do_POST  # noqa: N815

            def _body(self) -> dict[str, Any]:
                found: dict[str, Any] = json.loads(
                    self.rfile.read(int(self.headers["Content-Length"]))
                )
                return found

            def do_PATCH(self) -> None:
                kind = self.headers["Content-Type"]
                self._answer(*owner.patch(self.path, kind, self._body()))

            def _answer(self, status: int, found: dict[str, Any]) -> None:
                body = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """How to reach it, as a kubeconfig."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "beat", "user": {"token": "none"}}],
            "contexts": [
                {
                    "name": "fake",
                    "context": {"cluster": "fake", "user": "beat", "namespace": "fleet"},
                }
            ],
        }

    def deploy(self, name: str, *pods: str) -> None:
        """A Deployment that has these pods."""
        self.deployments[name] = len(pods)
        self.pods[name] = {pod: FakePod() for pod in pods}

    def settle(self) -> None:
        """What the controllers do: end surplus pods, create missing ones, forget ended ones."""
        for name, replicas in self.deployments.items():
            live = [pod for pod in self.pods[name].values() if not pod.is_ending]
            by_cost = sorted(live, key=lambda pod: int(pod.annotations.get(COST, 0)))
            for pod in by_cost[: max(0, len(live) - replicas)]:
                pod.is_ending = True
            for number in range(replicas - len(live)):
                self.pods[name][f"{name}-new-{number}"] = FakePod()

    def live(self, name: str) -> list[str]:
        """The pods that are not ending."""
        return [each for each, pod in self.pods[name].items() if not pod.is_ending]

    def cost(self, pod: str) -> int:
        """The deletion cost of a pod."""
        (found,) = [pods[pod] for pods in self.pods.values() if pod in pods]
        return int(found.annotations.get(COST, 0))

    def read(self, path: str) -> tuple[int, dict[str, Any]]:
        """The answer to a GET."""
        self.requests.append(("GET", path))
        if self.refusal:
            return _status(self.refusal)
        if named := SECRET.match(path):
            return self._secrets(named[2], path)
        named = SCALE.match(path)
        return self._scale(named[1]) if named and named[1] in self.deployments else _status(404)

    def put(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to a POST or PUT of a Secret. It needs the resource version that is there."""
        named = SECRET.match(path)
        self.requests.append(("PUT" if named and named[2] else "POST", path))
        name, version = body["metadata"]["name"], body["metadata"].get("resourceVersion")
        if self.refusal or named is None:
            return _status(self.refusal or 404)
        if not NAME.fullmatch(name) or not all(map(_is_base64, body["data"].values())):
            return _status(422)
        with self.lock:
            present = self.secrets.get(name)
            if version != (present and present["metadata"]["resourceVersion"]):
                return _status(409)
            self.writes += 1
            body["metadata"] |= {"resourceVersion": str(self.writes), "namespace": "fleet"}
            self.secrets[name] = body
        return (200 if named[2] else 201), body

    def _secrets(self, name: str | None, path: str) -> tuple[int, dict[str, Any]]:
        if name is not None:
            found = self.secrets.get(name)
            return (200, found) if found else _status(404)
        query = parse_qs(urlsplit(path).query).get("labelSelector", [""])[0]
        wanted = set(filter(None, query.split(",")))
        items = [
            each
            for each in self.secrets.values()
            if wanted <= {"=".join(pair) for pair in each["metadata"]["labels"].items()}
        ]
        return 200, {"apiVersion": "v1", "kind": "SecretList", "metadata": {}, "items": items}

    def patch(self, path: str, kind: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to a PATCH."""
        self.requests.append(("PATCH", path))
        if self.refusal:
            return _status(self.refusal)
        if named := SCALE.match(path):
            return self._apply(named[1], path, kind, body)
        if named := POD.match(path):
            return self._annotate(named[1], kind, body)
        return _status(404)

    def _apply(
        self, name: str, path: str, kind: str, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        if name not in self.deployments:
            return _status(404)
        if kind != "application/apply-patch+yaml":
            return _status(415)
        if "fieldManager=" not in path or body.get("kind") != "Scale":
            return _status(422)
        self.deployments[name] = body["spec"]["replicas"]
        return self._scale(name)

    def _annotate(self, name: str, kind: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        found = next((pods[name] for pods in self.pods.values() if name in pods), None)
        if found is None:
            return _status(404)
        if kind not in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            return _status(415)
        found.annotations |= body["metadata"]["annotations"]
        metadata: dict[str, Any] = {"name": name, "annotations": found.annotations}
        if found.is_ending:
            metadata["deletionTimestamp"] = "2026-11-30T12:00:00Z"
        return 200, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}

    def _scale(self, name: str) -> tuple[int, dict[str, Any]]:
        replicas, pods = self.deployments[name], len(self.live(name))
        shown = str(replicas) if self.is_garbled else replicas
        return 200, {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": "fleet"},
            # The API leaves a zero out of the specification.
            "spec": {"replicas": shown} if replicas else {},
            "status": {"replicas": pods, "selector": f"fleet/pool={name}"},
        }

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


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _status(code: int) -> tuple[int, dict[str, Any]]:
    return code, {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code}
