"""The HTTP client for the providers' clients: it normalises their answers.

It takes proxies and certificates from the environment, which a custom transport would not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from fleet.models.answers import anthropic, chat, google
from fleet.models.answers.faults import Fault, fault_in
from fleet.models.answers.fields import Json, Pieces, Unreadable, mapping

CONNECT_SECONDS = 5.0
"""A server that has not accepted the connection by then counts as unreachable."""

MAX_CONNECTIONS = 1000
MAX_IDLE = 100

ENCODED = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that describe only the original body."""

DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form of answers and errors in a protocol. `named`: events are named by their type."""

    whole: Callable[[Mapping[str, Any]], Json]
    pieces: Callable[[], Pieces]
    fault: Callable[[Fault], Json]
    events_of: Callable[[Mapping[str, Any]], list[Json]]
    then: Callable[[Json], Json] = lambda told: told
    named: bool = False

    def event(self, told: Json) -> bytes:
        """One event of a stream."""
        name = f"event: {told['type']}\n".encode() if self.named else b""
        return name + b"data: " + _json(told) + b"\n\n"


CHAT = AnswerForm(chat.whole, chat.ChatPieces, Fault.for_chat, chat.events_of)
MISTRAL = AnswerForm(
    chat.whole, chat.ChatPieces, Fault.for_chat, chat.events_of, chat.in_mistrals_way
)
ANTHROPIC = AnswerForm(
    anthropic.whole,
    anthropic.MessagePieces,
    Fault.for_anthropic,
    anthropic.events_of,
    named=True,
)
GOOGLE = AnswerForm(google.whole, google.AnswerPieces, Fault.for_google, google.events_of)


class AnswerClient(httpx2.AsyncClient):
    """Sends requests, and returns answers in the form of their protocol. `timeout` is in
    seconds."""

    def __init__(self, form: AnswerForm, timeout: float) -> None:
        limits = httpx2.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE
        )
        super().__init__(timeout=timeout, limits=limits)
        self.form = form

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **options: Any
    ) -> httpx2.Response:
        """Send a request. Raises `Unreadable` for an answer that lacks a needed field."""
        limits = request.extensions.get("timeout") or {}
        limits["connect"] = min(CONNECT_SECONDS, limits.get("connect") or CONNECT_SECONDS)
        response = await super().send(request, stream=stream, **options)
        if not response.is_success:
            return await self._error(response)
        kind = response.headers.get("content-type", "")
        if stream and "json" not in kind and "html" not in kind:
            return _like(response, stream=_Stream(response, self.form))
        content = await response.aread()
        if not content.strip():
            raise Unreadable("the answer is empty")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = response.text
        fault = fault_in(body)
        if fault is not None:
            return _like(response, fault.status, content=_json(self.form.fault(fault)))
        if isinstance(body, str):
            return response
        if stream:
            return self._as_stream(response, mapping(body))
        return _like(response, content=_json(self.form.then(self.form.whole(mapping(body)))))

    def _as_stream(self, response: httpx2.Response, body: Mapping[str, Any]) -> httpx2.Response:
        """A stream from a complete answer: a server ignored the request for a stream."""
        told = [self.form.event(self.form.then(each)) for each in self.form.events_of(body)]
        response.headers["content-type"] = "text/event-stream"
        return _like(response, content=b"".join(told))

    async def _error(self, response: httpx2.Response) -> httpx2.Response:
        """An error as an object of its protocol, instead of plain text."""
        try:
            body = json.loads(await response.aread())
        except ValueError:
            return response
        fault = fault_in(body)
        if fault is None or not (isinstance(body, list) or isinstance(body.get("error"), str)):
            return response
        told = self.form.fault(fault._replace(status=response.status_code))
        return _like(response, content=_json(told))


class _Stream(httpx2.AsyncByteStream):
    """The events of a stream, normalised as they arrive."""

    def __init__(self, response: httpx2.Response, form: AnswerForm) -> None:
        self.response = response
        self.form = form

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self.form.pieces()
        # The content type does not matter if the events can be read.
        self.response.headers["content-type"] = "text/event-stream"
        async for event in httpx2.EventSource(self.response, max_event_size=None):
            if event.data.strip() == DONE:
                told = [*map(self.form.event, pieces.end()), f"data: {DONE}\n\n".encode()]
            else:
                told = self._events(event.data, pieces)
            for each in told:
                yield each

    def _events(self, data: str, pieces: Pieces) -> list[bytes]:
        if not data.strip():
            return []
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = data
        fault = fault_in(body)
        if fault is not None:
            return [self.form.event(self.form.fault(fault))]
        if not isinstance(body, Mapping):
            raise Unreadable("an event of the stream is no object")
        return [self.form.event(self.form.then(each)) for each in pieces.piece(mapping(body))]

    async def aclose(self) -> None:
        await self.response.aclose()


def _like(response: httpx2.Response, status: int | None = None, **body: Any) -> httpx2.Response:
    """The response with another body."""
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in ENCODED]
    return httpx2.Response(
        status or response.status_code,
        headers=headers,
        request=response.request,
        extensions=response.extensions,
        history=response.history,
        **body,
    )


def _json(told: Json) -> bytes:
    """JSON in ASCII, so that no character of a text counts as the end of a line."""
    return json.dumps(told).encode()
