"""Fleet's Kombu transport: `fleet://HOST:PORT/DATABASE`, `fleets://` over TLS, and
`fleet-sentinel://` for the master that Sentinels name.

It differs from the stock Redis transport in five points, for Fleet's queues only. Any other queue
is served as by the stock one.

1. Publishing keeps one client, and places a planned task by one script, see `publishing.py`.
2. Taking a message and noting it as unacknowledged is one script, `fetch.lua`. The stock
   transport pops first and notes later: a worker killed in between loses the message.
3. A live worker keeps its messages, however long they take: their time is renewed. A message
   whose time was not renewed for the visibility timeout, by Redis's clock, is requeued. The
   stock transport renews nothing: a task that outlasts the timeout runs twice.
4. A consumer blocks on the queues' wake lists. Then it takes as many messages as it has free
   slots, and a few more if slots are about to come free, see `fleet.worker.slots`. A blocking
   pop of the messages themselves could not be atomic with the noting.
5. Under load it does not block: if the last fetch filled every free slot, the next free slots
   are filled at once, and done messages are acknowledged in the same round trip.

A token can get lost with the worker that popped it, and a stock publisher pushes none. So after a
wait that times out, which takes a second, the consumer checks the queues too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import NoScriptError
from redis.sentinel import Sentinel

from fleet.broker.revocations import Revoked
from fleet.broker.transport.publishing import PublishingChannel
from fleet.broker.transport.unacknowledged import QoS
from fleet.errors import InvalidConfig
from fleet.redis.client import sentinel_options
from fleet.redis.keys import Keys, line, wake
from fleet.settings.addresses import SENTINEL_PORT, redis_address
from fleet.tasks.waiting.queue_index_store import free_slot

PLAIN, TLS, SENTINEL = "fleet", "fleets", "fleet-sentinel"
TRANSPORT_ALIASES[PLAIN] = TRANSPORT_ALIASES[TLS] = f"{__name__}:Transport"
TRANSPORT_ALIASES[SENTINEL] = f"{__name__}:SentinelTransport"


def transport_url(url: str) -> str:
    """The URL under which this transport serves a Redis. It names the first of several Sentinels;
    the others are in the `Link`, and TLS options are in the settings."""
    address = redis_address(url)
    if address.master:
        return address.url(SENTINEL, address.hosts[0])
    return address.url(PLAIN if address.tls is None else TLS, address.hosts[0])


class Channel(PublishingChannel):
    """A channel of the stock transport that publishes and consumes as Fleet needs it."""

    QoS = QoS
    from_transport_options = (*redis.Channel.from_transport_options, "fleet")

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        _check_prefix(connection.client.transport_options)
        self.noted: set[str] = set()
        #: The queues to listen to, by the last answer of `fetch.lua`. An ejected pool listens only
        #: to its own queue; an agent or pool in maintenance listens to none. Both ask again once a
        #: second.
        self.listen = "all"
        #: Whether the worker shuts down: it then leaves tokens to other workers.
        self.is_draining: Callable[[], bool] = lambda: False
        self.revoked = Revoked()
        #: Whether the last fetch got as many messages as it asked for: more may wait.
        self.has_more = False
        self._known_keys: dict[tuple[str, ...], list[str]] = {}
        self._fetches, self._prefix = count(), uuid4().hex
        #: The wake lists among the keys that the channel blocks on; the others are plain queues.
        self._tokens_awaited: frozenset[str] = frozenset()
        #: Whether plain queues come first: the two kinds take turns, as queues do.
        self._plain_first = False
        super().__init__(connection, *args, **kwargs)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self.fleet is None:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        ours, others = self._sorted_out(queues)
        if self._fill_at_once(ours, others) and not self.qos.can_consume():
            return
        tokens, plain = self._wake_lists(ours), self._plain_lists(others)
        keys = plain + tokens if self._plain_first else tokens + plain
        if not keys:
            return
        self._tokens_awaited = frozenset(tokens)
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        wait = self.brpop_timeout if timeout is None else timeout
        self.client.connection.send_command("BRPOP", *keys, wait or 0)

    def _fill_at_once(self, ours: Sequence[str], others: Sequence[str]) -> bool:
        """Fill the free slots without a wait, if more messages may wait. Whether it was tried."""
        wanted = self.has_more and not self._closing
        at_once = wanted and self.has_event_loop and bool(ours) and not others
        if at_once:
            self._fetch(ours)
        return at_once

    def _brpop_read(self, **options: Any) -> bool:
        if self.fleet is None:
            return bool(super()._brpop_read(**options))
        try:
            popped = self._read_popped(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        self._plain_first = True
        if popped is not None:
            key = bytes_to_str(popped[0])
            if key not in self._tokens_awaited:
                return self._deliver_plain(key.rsplit(self.sep, 1)[0], popped[1])
            if self._closing:
                # This worker takes no more: the token is for another one.
                self._create_client().lpush(*popped)
        ours, _ = self._sorted_out(self.active_queues)
        if self._closing or not (ours and self._fetch(ours)):
            raise redis.Empty()
        return True

    def _deliver_plain(self, queue: str, raw: bytes) -> bool:
        """Pass on a message of a plain queue. If its consumer was cancelled during the wait, the
        message is requeued."""
        self._plain_first = False
        self._queue_cycle.rotate(queue)
        self.hand_on_popped(queue, raw)
        return True

    def _read_popped(self, **options: Any) -> Any:
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise

    def _wake_lists(self, queues: Sequence[str]) -> list[str]:
        assert self.fleet is not None
        if self.listen == "none":
            return [wake(self._agent_key)]
        listens_to_all = self.listen == "all"
        return [wake(q) for q in queues if listens_to_all or not self.fleet.is_overflow(q)]

    def _plain_lists(self, queues: Sequence[str]) -> list[str]:
        """The lists of plain queues to listen to: none without a free slot."""
        if not queues or (self.qos.prefetch_count and self.qos.free_slots() <= 0):
            return []
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    @property
    def _agent_key(self) -> str:
        assert self.fleet is not None
        return Keys(self.fleet.tag).agent(self.fleet.agent)

    def _sorted_out(self, queues: Sequence[str]) -> tuple[list[str], list[str]]:
        """The fleet's queues, by priority, and the others."""
        link = self.fleet
        assert link is not None
        ours = [queue for queue in queues if link.owns(queue)]
        order = {queue: place for place, queue in enumerate(link.queues)}
        ours.sort(key=lambda queue: order.get(queue, len(order)))
        return ours, [queue for queue in queues if not link.owns(queue)]

    @property
    def has_event_loop(self) -> bool:
        """Whether this is an agent in its event loop, which acknowledges at its next poll."""
        worker = self.fleet is not None and self.fleet.pool
        return bool(worker and self.connection and self.connection.in_event_loop)

    def _fetch(self, queues: Sequence[str]) -> bool:
        """Take as many messages as there are free slots. Whether there were any."""
        # A fetch of 0 messages pushes the tokens again.
        most, ahead = (0, 0) if self.is_draining() else self.qos.room()
        arguments = self._fetch_arguments(queues, most, ahead)
        taken = self._run_fetch(self._fetch_keys(queues), arguments)
        listen, revoked, stamps, *rows = taken
        self.revoked.note(revoked, stamps)
        self.listen = bytes_to_str(listen)
        self.has_more = most > 0 and len(rows) == 3 * most
        failure: Exception | None = None
        for queue, noted, raw in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            tag = bytes_to_str(noted)
            self.noted.add(tag)
            try:
                self.hand_on_noted(bytes_to_str(queue), tag, raw)
            except Exception as error:
                # The other messages are noted as this worker's, so it has to get them first.
                failure = failure or error
        if failure is not None:
            raise failure
        return bool(rows)

    def _run_fetch(self, keys: list[str], arguments: list[str | int]) -> Any:
        """Run `fetch.lua`, and acknowledge done messages in the same round trip."""
        done = self.qos.take_done()
        if not done:
            return self.scripts.fetch(keys=keys, args=arguments)
        pipe = self._create_client().pipeline(transaction=False)
        pipe.zrem(self.unacked_index_key, *done).hdel(self.unacked_key, *done)
        # A registered script in a pipeline would cost a check of its presence each time.
        pipe.evalsha(self.scripts.fetch.sha, len(keys), *keys, *arguments)
        try:
            *acknowledged, taken = pipe.execute(raise_on_error=False)
        except Exception:
            self.qos.keep_done(done)
            raise
        if any(isinstance(answer, Exception) for answer in acknowledged):
            self.qos.keep_done(done)
        if isinstance(taken, NoScriptError):
            return self.scripts.fetch(keys=keys, args=arguments)
        if isinstance(taken, Exception):
            raise taken
        return taken

    def _fetch_keys(self, queues: Sequence[str]) -> list[str]:
        known = tuple(queues)
        if known not in self._known_keys:
            self._known_keys[known] = self._spell_fetch_keys(queues)
        return self._known_keys[known]

    def _spell_fetch_keys(self, queues: Sequence[str]) -> list[str]:
        assert self.fleet is not None
        keys = Keys(self.fleet.tag)
        pool = keys.pool(self.fleet.pool)
        unacked = (self.unacked_key, self.unacked_index_key)
        fixed = [self._agent_key, pool.agents, pool.in_flight, *unacked, pool.facts]
        fixed += [keys.revoked, keys.revoked_stamps]
        lists = [
            key
            for queue in queues
            for step in self.priority_steps
            for key in self._list_of(queue, step)
        ]
        return fixed + lists

    def _list_of(self, queue: str, step: int) -> tuple[str, str, str]:
        key = self._q_for_pri(queue, step)
        return key, wake(queue), line(key)

    def _fetch_arguments(
        self, queues: Sequence[str], most: int, ahead: int
    ) -> list[str | int]:
        link = self.fleet
        assert link is not None
        prefix = f"{self._prefix}.{next(self._fetches)}."
        arguments: list[str | int] = [link.agent, most, prefix, link.dead_after_ms, ahead]
        arguments.append(self.revoked.stamps_until)
        for queue in queues:
            arguments += [queue, link.kind(queue)] * len(self.priority_steps)
        return arguments

    # Requeueing

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)
        link = self.fleet
        if link is None or not link.owns(routing_key):
            return
        pipe.lpush(wake(routing_key), "1")
        pipe.ltrim(wake(routing_key), 0, 0)
        task = (payload.get("headers") or {}).get("id")
        if not isinstance(task, str):
            return
        if link.kind(routing_key) != "jobs":
            priority = self._get_message_priority(payload, reverse=False)
            places = [line(self._q_for_pri(routing_key, priority))]
            self.scripts.put_back(keys=places, args=[task, int(not leftmost)], client=pipe)
        if link.pool and link.is_overflow(routing_key):
            free_slot(self.scripts, Keys(link.tag), task, link.pool, client=pipe)


def _check_prefix(options: Mapping[str, Any]) -> None:
    """Raise `InvalidConfig` for a prefix of all keys: Fleet's scripts use none."""
    if options.get("fleet") is not None and options.get("global_keyprefix"):
        raise InvalidConfig(
            "broker_transport_options: global_keyprefix puts messages into lists that no worker of "
            "the fleet reads; leave it out, and separate fleets in one Redis by FLEET_NAMESPACE"
        )


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same on the current master: each new connection asks the Sentinels for it."""

    from_transport_options = (*redis.SentinelChannel.from_transport_options, "fleet")

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        """The stock method would use the broker's addresses for the Sentinels, and no password or
        TLS of their own."""
        assert self.fleet is not None and self.fleet.address is not None
        address, options = self.fleet.address, self._connparams(asynchronous)
        del options["host"], options["port"]
        manager = Sentinel(
            address.hosts,
            sentinel_kwargs=sentinel_options(address, self.socket_timeout),
            **options,
        )
        # Kombu closes the connections of the manager in these attributes.
        if asynchronous:
            self._async_sentinel_manager = manager
        else:
            self._sentinel_manager = manager
        return manager.master_for(address.master).connection_pool


class Poller(redis.MultiChannelPoller):
    """The stock poller, which also sends the acknowledgements that no fetch has sent."""

    def on_poll_start(self) -> None:
        super().on_poll_start()
        for channel in self._channels:
            channel.qos.acknowledge_done()


class Transport(redis.Transport):
    """The stock Redis transport with Fleet's channel."""

    Channel = Channel
    #: Whether a worker's event loop polls, so that acknowledgements can wait for it.
    in_event_loop = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self.in_event_loop = True

    def leave_event_loop(self) -> None:
        """Acknowledge each message at once from now on: the loop polls no more."""
        self.in_event_loop = False
        for channel in self.channels:
            channel.qos.acknowledge_done()


class SentinelTransport(Transport):
    """The same transport to the master that Sentinels name."""

    default_port = SENTINEL_PORT
    Channel = SentinelChannel
