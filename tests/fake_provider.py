"""A fake model provider: a real HTTP server that speaks the OpenAI protocol and fails on command.
It streams where it is asked to.

    with FakeProvider() as fake:
        fake.script("gpt-4o", rate_limited(retry_after=2), answer("hi"))
        ...  # call the model at fake.base_url
        assert fake.count("gpt-4o") == 2

Each request takes the next behaviour of its model's queue. Where that is empty, the fake answers.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

Manner = Literal["whole", "held", "cut", "hang", "stall", "endless", "unfinished"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one request gets: `whole`, at once or when the test lets it go (`held`), `cut` in the
    middle of its body, the first half and no more (`stall`), nothing (`hang`), or the answer over
    and over until the client hangs up (`endless`). Of a stream `unfinished` leaves out the end.
    Without `streams` it is JSON though a stream was asked for."""

    status: int = 200
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"
    streams: bool = True


@dataclass(frozen=True, slots=True)
class Received:
    """One request that came in: its parsed body and the key that it carried."""

    model: str
    body: Mapping[str, Any]
    key: str


def answer(
    text: str = "hi",
    input_tokens: int = 10,
    output_tokens: int = 5,
    cached_tokens: int = 0,
    *,
    usage: bool = True,
    reasoning_tokens: int = 0,
    finish: str = "stop",
) -> Behaviour:
    """An answer; with `usage=False` one that does not tell what it took."""
    body = _completion({"role": "assistant", "content": text}, finish)
    if usage:
        body["usage"] = {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
        }
    return Behaviour(body=body)


def rate_limited(
    retry_after: int | str | None = None, milliseconds: float | None = None
) -> Behaviour:
    """HTTP 429. `retry_after` is in whole seconds, or an HTTP date."""
    body = _error("Rate limit reached", "rate_limit_error", "rate_limit_exceeded")
    return Behaviour(429, body, _come_back(retry_after, milliseconds))


def out_of_quota() -> Behaviour:
    """HTTP 429 of another sort: the account has nothing left."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return Behaviour(429, _error(message, "insufficient_quota", "insufficient_quota"))


def broken(status: int = 500, retry_after: int | None = None) -> Behaviour:
    """The provider's own fault: 500, 503 and the like."""
    body = _error("The server had an error", "server_error")
    return Behaviour(status, body, _come_back(retry_after))


def garbled() -> Behaviour:
    """HTTP 200 with something that is no answer."""
    return Behaviour(body={"ok": True})


def too_long() -> Behaviour:
    """The prompt does not fit into the model's context window."""
    message = "This model's maximum context length is 8192 tokens. Please reduce the messages."
    return Behaviour(400, _error(message, "invalid_request_error", "context_length_exceeded"))


def filtered() -> Behaviour:
    """The provider's content filter stopped the answer: HTTP 200 without any text."""
    return Behaviour(body=_completion({"role": "assistant", "content": None}, "content_filter"))


def filtered_prompt() -> Behaviour:
    """The provider's content filter would not let the prompt in: HTTP 400."""
    message = "The prompt triggered the content management policy."
    return Behaviour(400, _error(message, "invalid_request_error", "content_filter"))


def refused(reason: str = "I cannot help with that.") -> Behaviour:
    """The model itself refused, in the field that the protocol has for it."""
    message = {"role": "assistant", "content": None, "refusal": reason}
    return Behaviour(body=_completion(message, "stop"))


def wrong_key(key: str = "sk-secret") -> Behaviour:
    """HTTP 401; like some providers it repeats the key."""
    message = f"Incorrect API key provided: {key}"
    return Behaviour(401, _error(message, "invalid_request_error", "invalid_api_key"))


def bad_request(
    message: str = "Unknown parameter",
    code: str | None = None,
    kind: str = "invalid_request_error",
    status: int = 400,
) -> Behaviour:
    """HTTP 400 or another, for a reason of your choice."""
    return Behaviour(status, _error(message, kind, code))


def hang() -> Behaviour:
    """No answer at all for as long as the fake lives."""
    return Behaviour(manner="hang")


def held(behaviour: Behaviour) -> Behaviour:
    """The same, but not before `let_go`."""
    return replace(behaviour, manner="held")


def cut(text: str = "this never arrives") -> Behaviour:
    """The connection breaks in the middle of an answer's body."""
    return Behaviour(body=answer(text).body, manner="cut")


def stall(text: str = "this never arrives") -> Behaviour:
    """A stream that stops in the middle of an answer, with an open connection."""
    return Behaviour(body=answer(text).body, manner="stall")


def endless(text: str) -> Behaviour:
    """A stream that says the text every 50 ms until the client hangs up."""
    return Behaviour(body=answer(text).body, manner="endless")


def broken_off(kind: str = "server_error", code: str | None = None) -> Behaviour:
    """A fault that an event tells in the middle of a stream."""
    fault = _error("The server had an error", kind, code)
    return Behaviour(body={**answer("this never ends").body, "fault": fault})


def unfinished(text: str) -> Behaviour:
    """A stream that ends in order, and says neither why nor what it took."""
    return Behaviour(body=answer(text).body, manner="unfinished")


def stubborn(behaviour: Behaviour) -> Behaviour:
    """The same as JSON, though a stream was asked for."""
    return replace(behaviour, streams=False)


def _completion(message: Mapping[str, Any], finish_reason: str) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "choices": [choice],
    }


def _come_back(retry_after: int | str | None, milliseconds: float | None = None) -> dict[str, str]:
    told = {"Retry-After": retry_after, "retry-after-ms": milliseconds}
    return {name: str(value) for name, value in told.items() if value is not None}


def _error(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


NOT_FOUND = Behaviour(404, _error("Not found", "invalid_request_error"))


class HungUp(NamedTuple):
    """When a stream found that its client had closed it, by the monotonic clock, and how often it
    had said its text by then."""

    at: float
    sent: int


Chunks = list[dict[str, Any]]


def _chunks(body: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[Chunks, Chunks, Chunks]:
    """A completion as the protocol streams it: how it starts, its text word by word, and its end,
    with what it took where that was asked for."""
    (choice,) = body["choices"]
    message, reason = choice["message"], choice["finish_reason"]

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        told = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return _chunk(body, [told])

    words = [f"{word} " for word in (message["content"] or "").split(" ")]
    words[-1] = words[-1][:-1]
    start = [chunk({"role": "assistant", "content": ""})]
    text = [chunk({"content": word}) for word in words if word]
    if message.get("refusal"):
        text.append(chunk({"refusal": message["refusal"]}))
    if "fault" in body:
        return start, text, [body["fault"]]
    end = [chunk({}, reason)]
    if "usage" in body and (asked.get("stream_options") or {}).get("include_usage"):
        end.append({**_chunk(body, []), "usage": body["usage"]})
    return start, text, end


def _chunk(body: Mapping[str, Any], choices: Chunks) -> dict[str, Any]:
    named = {name: body[name] for name in ("id", "created", "model")}
    return {**named, "object": "chat.completion.chunk", "choices": choices}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """Whole crews call at once."""


class FakeProvider:
    """Serves `/v1/chat/completions` and `/v1/models` on a free port of the loopback interface."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Behaviour]] = defaultdict(deque)
        self._received: list[Received] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._let_go = threading.Event()
        self._hung_up: list[HungUp] = []
        self._said = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base_url(self) -> str:
        """What a client takes as the base URL; it ends in /v1."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def script(self, model: str, *behaviours: Behaviour) -> None:
        """Append to the queue of a model."""
        with self._changed:
            self._queues[model].extend(behaviours)

    def requests(self, model: str | None = None) -> list[Received]:
        """What came in, oldest first; of one model, or of all."""
        with self._changed:
            return [each for each in self._received if model in (None, each.model)]

    def count(self, model: str | None = None) -> int:
        """How many requests came in, answered or not."""
        return len(self.requests(model))

    def wait_for(self, model: str, count: int = 1, timeout: float = 10.0) -> None:
        """Return when so many requests of a model have come in. Raises `TimeoutError`."""

        def arrived() -> bool:
            return sum(each.model == model for each in self._received) >= count

        with self._changed:
            if not self._changed.wait_for(arrived, timeout):
                raise TimeoutError(f"{model} was not asked {count} times within {timeout:g} s")

    def note_said(self) -> None:
        """What an endless stream does whenever it has said its text."""
        with self._changed:
            self._said += 1
            self._changed.notify_all()

    def wait_until_said(self, times: int, timeout: float = 10.0) -> None:
        """Return when endless streams have said their text so often. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._said >= times, timeout):
                raise TimeoutError(f"nothing was said {times} times within {timeout:g} s")

    def note_hung_up(self, after: HungUp) -> None:
        """What a stream does that its client has closed."""
        with self._changed:
            self._hung_up.append(after)
            self._changed.notify_all()

    def hang_ups(self) -> int:
        """How many streams were closed by their client."""
        with self._changed:
            return len(self._hung_up)

    def wait_for_hang_up(self, count: int = 1, timeout: float = 10.0) -> HungUp:
        """The stream that was so manieth to be closed by its client. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._hung_up) >= count, timeout):
                raise TimeoutError(f"no client hung up {count} times within {timeout:g} s")
            return self._hung_up[count - 1]

    def models(self) -> list[str]:
        """The models that were scripted or asked so far."""
        with self._changed:
            return sorted({*self._queues, *(each.model for each in self._received)})

    def take(self, received: Received) -> Behaviour:
        """Note a request and take the behaviour that it gets."""
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()
            queue = self._queues[received.model]
            return queue.popleft() if queue else answer()

    def let_go(self) -> None:
        """Answer what is held, now and from now on."""
        self._let_go.set()

    def wait_until_let_go(self) -> None:
        """What a request that is held does."""
        self._let_go.wait()

    @property
    def closing(self) -> bool:
        """Whether the fake is about to stop."""
        return self._closing.is_set()

    def wait_until_closed(self) -> None:
        """What a request that hangs does."""
        self._closing.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(fake: FakeProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = [{"id": name, "object": "model"} for name in fake.models()]
            known = self.path == "/v1/models"
            self._send(Behaviour(body={"object": "list", "data": data}) if known else NOT_FOUND)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(NOT_FOUND)
                return
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            behaviour = fake.take(Received(body["model"], body, key))
            if behaviour.manner == "hang":
                fake.wait_until_closed()
                self.close_connection = True
                return
            if behaviour.manner == "held":
                fake.wait_until_let_go()
            named = {"model": body["model"]} if "choices" in behaviour.body else {}
            named_behaviour = replace(behaviour, body={**behaviour.body, **named})
            if named and body.get("stream") and behaviour.streams:
                self._stream(named_behaviour, body)
            else:
                self._send(named_behaviour)

        def _stream(self, behaviour: Behaviour, asked: Mapping[str, Any]) -> None:
            start, text, end = _chunks(behaviour.body, asked)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = len(text) // 2
            if behaviour.manner == "endless":
                self._stream_for_ever(start, text)
            elif behaviour.manner in ("cut", "stall"):
                self._event(*start, *text[:half])
                if behaviour.manner == "stall":
                    fake.wait_until_closed()
                self._break()
            else:
                ending = () if behaviour.manner == "unfinished" else (*end, "[DONE]")
                self._event(*start, *text, *ending)
                self.wfile.write(b"0\r\n\r\n")

        def _stream_for_ever(self, start: Sequence[Any], text: Sequence[Any]) -> None:
            sent = 0
            try:
                self._event(*start)
                while not fake.closing:
                    self._event(*text)
                    sent += 1
                    fake.note_said()
                    time.sleep(0.05)
            except OSError:
                fake.note_hung_up(HungUp(time.monotonic(), sent))
            self.close_connection = True

        def _event(self, *events: Any) -> None:
            for each in events:
                told = each if isinstance(each, str) else json.dumps(each)
                piece = f"data: {told}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()

        def _break(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, behaviour: Behaviour) -> None:
            content = json.dumps(behaviour.body).encode()
            self.send_response(behaviour.status)
            for name, value in behaviour.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if behaviour.manner == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self._break()
            else:
                self.wfile.write(content)

        log_message: Callable[..., None] = staticmethod(lambda *_: None)

    return Handler
