"""Fleet's way to publish over RabbitMQ: `fleet-amqp://` and, over TLS, `fleet-amqps://`.

It is Kombu's transport but for one thing. A task that Fleet's router has planned is placed by the
atomic step of `submit.lua`, as over Redis: with its record, its money, its slot, and its time where
it has one. It goes to RabbitMQ by the outbox then. Any other message is published as ever.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

from kombu.transport import TRANSPORT_ALIASES, pyamqp
from kombu.utils.json import dumps

from fleet.broker.link import Link
from fleet.broker.messages import HEADER, properties_of

PREFIX = "fleet-"
TRANSPORT_ALIASES[f"{PREFIX}amqp"] = f"{__name__}:Transport"
TRANSPORT_ALIASES[f"{PREFIX}amqps"] = f"{__name__}:SSLTransport"


def rabbitmq_transport_url(url: str) -> str:
    """The address under which this transport serves a RabbitMQ; TLS is told by the settings."""
    parts = urlsplit(url)
    return parts._replace(scheme=PREFIX + parts.scheme, query="").geturl()


class Channel(pyamqp.Channel):
    """A channel of the stock transport that places the fleet's tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The stock channel puts the one that waits for confirmations in its place in this way too.
        self._publish_stock: Any = self.basic_publish  # type: ignore[has-type]
        self.basic_publish = self._place_or_publish

    def _place_or_publish(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        if self._place(message):
            return None
        return self._publish_stock(message, *args, **kwargs)

    def _place(self, message: Any) -> bool:
        # A collected channel has no connection: the stock one says so, and Kombu heals it.
        link: Link | None = self.connection and self.connection.fleet
        if link is None or HEADER not in (message.properties.get("application_headers") or {}):
            return False
        known = as_kombu_writes_it(message)
        return link.place(known, dumps(known))


def as_kombu_writes_it(message: Any) -> dict[str, Any]:
    """A message of py-amqp in the form of Kombu's virtual transports, which the outbox keeps."""
    found = message.properties
    properties = properties_of(found.get("correlation_id"), found.get("reply_to"))
    body = message.body
    if isinstance(body, bytes):
        body = b64encode(body).decode()
        properties["body_encoding"] = "base64"
    return {
        "body": body,
        "content-encoding": found.get("content_encoding"),
        "content-type": found.get("content_type"),
        "headers": found.get("application_headers") or {},
        "properties": properties,
    }


class Connection(pyamqp.Connection):
    """A connection that knows its fleet, from `broker_transport_options["fleet"]`."""

    Channel = Channel

    def __init__(self, *args: Any, fleet: Link | None = None, **kwargs: Any) -> None:
        self.fleet = fleet
        super().__init__(*args, **kwargs)


class Transport(pyamqp.Transport):
    """The transport of `fleet-amqp://`."""

    Connection = Connection


class SSLTransport(pyamqp.SSLTransport):
    """The transport of `fleet-amqps://`."""

    Connection = Connection
