"""The messages that a consumer holds and has not acknowledged; see `fleet.runtime.transport`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str

RESTORE_AT_ONCE = 100


class QoS(redis.QoS):
    """Messages that `fetch.lua` took are noted as unacknowledged already."""

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag in self.channel.noted:
            self.channel.noted.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        with self._let_go(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with self._let_go(delivery_tag):
            super().reject(delivery_tag, requeue)

    @contextmanager
    def _let_go(self, delivery_tag: str) -> Iterator[None]:
        """A message is done with here, whatever Redis says to it: its slot is free again.

        Celery logs an error of the connection and goes on. The message would take a slot, and
        be renewed, for as long as the worker lives; let go, it comes back in time.
        """
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Renew what this consumer holds; give back what nobody has renewed for too long."""
        if self.channel.fleet is None:
            super().restore_visible(start, num, interval)
            return
        with self.channel.conn_or_acquire() as client:
            seconds, micros = client.time()
            now = seconds + micros / 1e6
            if self._delivered:
                held = dict.fromkeys(self._delivered, now)
                client.zadd(self.unacked_index_key, held, xx=True)
            overdue = client.zrangebyscore(
                self.unacked_index_key, 0, now - self.visibility_timeout, 0, RESTORE_AT_ONCE
            )
            for tag in overdue:
                self.restore_by_tag(bytes_to_str(tag), client)
