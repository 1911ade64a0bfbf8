"""Fleet's Kombu transport: `fleet://HOST:PORT/DATABASE`, `fleets://` over TLS, and
`fleet-sentinel://` for the master that Sentinels name.

It is the stock Redis transport but for five things, and for Fleet's queues alone; any other
queue is served as the stock one does it.

1. Publishing keeps one client. A task that Fleet's router has planned is placed by the atomic
   step of `submit.lua`: slot, record and message at once. Any other message to a queue of
   Fleet's is pushed with a wake-up token.
2. Taking a message and noting it as unacknowledged is one script, `fetch.lua`. The stock
   transport pops first and notes later: a worker killed in between loses the message.
3. A live worker's messages stay its own, however long they take: their time is renewed. A
   message that nobody has renewed for the visibility timeout, by Redis's clock, goes back.
   The stock transport renews nothing: a task that outlasts the timeout runs twice.
4. A consumer blocks on the queues' wake lists, and then takes as many messages as it has
   free slots, and a few more where they are about to come free, see `fleet.worker.slots`. A
   blocking pop of the messages themselves could not be atomic with the noting.
5. Under load there is nothing to wait for: where the last fetch filled every free slot, the
   next slots that come free are filled at once, and what is done with is acknowledged in the
   same round trip.

A token can get lost with the worker that popped it, and a stock publisher feeds none: so a
wait that times out, after a second, looks into the queues too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError, NoScriptError
from redis.sentinel import Sentinel

from fleet.broker.messages import content_of, may_wait, seconds_until_eta, without_eta
from fleet.broker.revocations import Revoked
from fleet.broker.transport.link import Link
from fleet.broker.transport.set_aside import GuardedChannel
from fleet.broker.transport.unacknowledged import QoS
from fleet.errors import InvalidConfig
from fleet.redis.client import sentinel_options
from fleet.redis.keys import Keys, line, pushed, wake
from fleet.redis.scripts import Scripts
from fleet.settings.addresses import SENTINEL_PORT, redis_address
from fleet.tasks.waiting.queue_index_store import free_slot
from fleet.tasks.waiting.schedule_store import deferred

PLAIN, TLS, SENTINEL = "fleet", "fleets", "fleet-sentinel"
TRANSPORT_ALIASES[PLAIN] = TRANSPORT_ALIASES[TLS] = f"{__name__}:Transport"
TRANSPORT_ALIASES[SENTINEL] = f"{__name__}:SentinelTransport"


RESEND_SECONDS = 60
"""For so long a message that is pushed a second time is known: the time-outs of all of Celery's own
attempts, with the default some 20 s, are over by then."""


def transport_url(url: str) -> str:
    """The address under which this transport serves a Redis. The first of several Sentinels stands
    for all: the others are in the `Link`, as is what TLS needs in the settings."""
    address = redis_address(url)
    if address.master:
        return address.url(SENTINEL, address.hosts[0])
    return address.url(PLAIN if address.tls is None else TLS, address.hosts[0])


class PublisherTag(str):
    """The delivery tag of an attempt to publish a message, which knows that of the first one."""

    first: str


class Channel(GuardedChannel):
    """A channel of the stock transport with Fleet's way to publish and to consume."""

    QoS = QoS
    fleet: Link | None = None
    from_transport_options = (*redis.Channel.from_transport_options, "fleet")

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        _check_prefix(connection.client.transport_options)
        self.noted: set[str] = set()
        #: What `fetch.lua` said to listen to. A pool that its health keeps from taking more hears
        #: only its own queue; an agent or pool in maintenance hears nothing. Both look again
        #: once a second.
        self.listen = "all"
        #: Whether the worker ends: its tokens are for others then.
        self.takes_nothing: Callable[[], bool] = lambda: False
        self.revoked = Revoked()
        #: Whether the last fetch got as many messages as it asked for: more may wait.
        self.more_waits = False
        self._known_keys: dict[tuple[str, ...], list[str]] = {}
        self._fetches, self._prefix = count(), uuid4().hex
        #: The wake lists among the keys that the channel blocks on; the others are plain queues.
        self._tokens_awaited: frozenset[str] = frozenset()
        #: Whether plain queues are looked at first: the two kinds take turns, as queues do.
        self._plain_first = False
        self._kept_client: Any = None
        self._scripts: Scripts | None = None
        super().__init__(connection, *args, **kwargs)

    # Publishing

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self.connection is None or self.connection.client is None:
            # A task that outlived its connection is acknowledged here. Celery expects an error of
            # the connection then; any other would end the worker.
            raise ConnectionError("the connection of this channel has been closed")
        if self._kept_client is None:
            self._kept_client = super()._create_client()
        return self._kept_client

    def _disconnect_pools(self) -> None:
        self._kept_client = self._scripts = None
        super()._disconnect_pools()

    @property
    def scripts(self) -> Scripts:
        """Fleet's scripts on the kept client."""
        if self._scripts is None:
            self._scripts = Scripts(self._create_client())
        return self._scripts

    def _next_delivery_tag(self) -> PublisherTag:
        return PublisherTag(super()._next_delivery_tag())

    def _inplace_augment_message(
        self, message: dict[str, Any], exchange: str, routing_key: str
    ) -> None:
        # Each attempt of one publish has the same properties, a later publish has others.
        properties = message["properties"]
        earlier = properties.get("delivery_tag")
        super()._inplace_augment_message(message, exchange, routing_key)
        tag = properties["delivery_tag"]
        tag.first = earlier.first if isinstance(earlier, PublisherTag) else tag

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        link = self.fleet
        if link is None or not link.owns(queue):
            super()._put(queue, message, **kwargs)
            return
        text = dumps(message)
        if not link.place(message, text):
            key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
            tag = message["properties"]["delivery_tag"]
            once = pushed(queue, getattr(tag, "first", tag))
            self._push(key, queue, once, message, text)
            self._maybe_update_queues_expire(self._create_client(), queue)

    def _push(self, key: str, queue: str, once: str, message: dict[str, Any], text: str) -> None:
        """Publish what is no task of Fleet's, or keep it in the schedule until its time."""
        link, wait, wake_list = self.fleet, seconds_until_eta(message), wake(queue)
        assert link is not None
        if wait > 0:
            expires_ms = self._expires.get(queue)
            kept = deferred(key, wake_list, dumps(without_eta(message)), expires_ms)
            keys = [Keys(link.tag).deferred, once]
            self.scripts.defer(keys=keys, args=[kept, int(wait * 1000), RESEND_SECONDS])
        else:
            self.scripts.push(keys=[key, wake_list, once], args=[text, RESEND_SECONDS])

    def put_off(self, queue: str, message: dict[str, Any]) -> bool:
        """Keep a message in the schedule that another transport has sent before its time: in a
        worker it would hold a slot until then. Whether it was kept."""
        if not may_wait(message):
            return False
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        self._push(key, queue, pushed(queue, content_of(message)), message, "")
        return True

    # Consuming

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
        """Fill the free slots without a wait, where more may be there. Whether it was tried."""
        wanted = self.more_waits and not self._closing
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
                # Nothing is taken any more: the token is for another worker.
                self._create_client().lpush(*popped)
        ours, _ = self._sorted_out(self.active_queues)
        if self._closing or not (ours and self._fetch(ours)):
            raise redis.Empty()
        return True

    def _deliver_plain(self, queue: str, raw: bytes) -> bool:
        """Hand on what was popped of a plain queue. It goes back where its consumer has just been
        cancelled: the wait had begun before."""
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
        all_of_them = self.listen == "all"
        return [wake(q) for q in queues if all_of_them or not self.fleet.is_overflow(q)]

    def _plain_lists(self, queues: Sequence[str]) -> list[str]:
        """What to listen to of plain queues: nothing of them is taken ahead of its slot."""
        if not queues or (self.qos.prefetch_count and self.qos.free_slots() <= 0):
            return []
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    @property
    def _agent_key(self) -> str:
        assert self.fleet is not None
        return Keys(self.fleet.tag).agent(self.fleet.agent)

    def _sorted_out(self, queues: Sequence[str]) -> tuple[list[str], list[str]]:
        """The fleet's queues, first things first, and the others."""
        link = self.fleet
        assert link is not None
        ours = [queue for queue in queues if link.owns(queue)]
        order = {queue: place for place, queue in enumerate(link.queues)}
        ours.sort(key=lambda queue: order.get(queue, len(order)))
        return ours, [queue for queue in queues if not link.owns(queue)]

    @property
    def has_event_loop(self) -> bool:
        """Whether this is a fleet's worker in its loop, which acknowledges at its next poll."""
        worker = self.fleet is not None and self.fleet.pool
        return bool(worker and self.connection and self.connection.in_event_loop)

    def _fetch(self, queues: Sequence[str]) -> bool:
        """Take as many messages as there are free slots. Whether there was one."""
        # Asking for nothing puts the tokens back.
        most, ahead = (0, 0) if self.takes_nothing() else self.qos.room()
        arguments = self._fetch_arguments(queues, most, ahead)
        taken = self._run_fetch(self._fetch_keys(queues), arguments)
        listen, revoked, stamps, *rows = taken
        self.revoked.note(revoked, stamps)
        self.listen = bytes_to_str(listen)
        self.more_waits = most > 0 and len(rows) == 3 * most
        failure: Exception | None = None
        for queue, noted, raw in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            tag = bytes_to_str(noted)
            self.noted.add(tag)
            try:
                self.hand_on_noted(bytes_to_str(queue), tag, raw)
            except Exception as error:
                # The others are noted as this worker's: they have to reach it first.
                failure = failure or error
        if failure is not None:
            raise failure
        return bool(rows)

    def _run_fetch(self, keys: list[str], arguments: list[str | int]) -> Any:
        """Run `fetch.lua`, and acknowledge what is done with in the same round trip."""
        done = self.qos.take_done()
        if not done:
            return self.scripts.fetch(keys=keys, args=arguments)
        pipe = self._create_client().pipeline(transaction=False)
        pipe.zrem(self.unacked_index_key, *done).hdel(self.unacked_key, *done)
        # A pipeline would ask first, each time, whether the script is known.
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

    # Giving back

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
    """Raise `InvalidConfig` for a prefix of all keys: the scripts name theirs without it."""
    if options.get("fleet") is not None and options.get("global_keyprefix"):
        raise InvalidConfig(
            "broker_transport_options: global_keyprefix puts messages where no worker of the fleet "
            "looks; leave it out, and tell fleets in one Redis apart by FLEET_NAMESPACE"
        )


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same, on whichever Redis is the master: each new connection asks the Sentinels."""

    from_transport_options = (*redis.SentinelChannel.from_transport_options, "fleet")

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        """The stock one would reach the Sentinels by the addresses of the broker, and without a
        password or TLS of their own."""
        assert self.fleet is not None and self.fleet.address is not None
        address, options = self.fleet.address, self._connparams(asynchronous)
        del options["host"], options["port"]
        manager = Sentinel(
            address.hosts,
            sentinel_kwargs=sentinel_options(address, self.socket_timeout),
            **options,
        )
        # Kombu closes what they hold.
        if asynchronous:
            self._async_sentinel_manager = manager
        else:
            self._sentinel_manager = manager
        return manager.master_for(address.master).connection_pool


class Poller(redis.MultiChannelPoller):
    """The stock poller, which also sends the acknowledgements that no fetch has taken along."""

    def on_poll_start(self) -> None:
        super().on_poll_start()
        for channel in self._channels:
            channel.qos.acknowledge_done()


class Transport(redis.Transport):
    """The stock Redis transport with Fleet's channel."""

    Channel = Channel
    #: Whether a worker's event loop polls, and acknowledgements can wait for it.
    in_event_loop = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self.in_event_loop = True

    def leave_event_loop(self) -> None:
        """The loop polls no more: from now on each message is acknowledged at once."""
        self.in_event_loop = False
        for channel in self.channels:
            channel.qos.acknowledge_done()


class SentinelTransport(Transport):
    """The same transport to the master that Sentinels name."""

    default_port = SENTINEL_PORT
    Channel = SentinelChannel
