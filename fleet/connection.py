"""Wires one client of Redis to all that works on it. The composition roots call this once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis import Redis

from fleet.agent import AgentSpec, installed_agents
from fleet.budgets.alerts_store import Alerts
from fleet.budgets.upkeep_store import MoneyUpkeep
from fleet.budgets.usage_store import Book
from fleet.ledger.rollups_store import Rollups
from fleet.ledger.store import Ledger
from fleet.models.complexity import Complexity
from fleet.models.examples_store import Examples
from fleet.models.priced import PricedModels
from fleet.models.prices_store import SharedPrices
from fleet.models.rules.choice import Model
from fleet.models.store import ModelState
from fleet.policy.audit_store import Audit
from fleet.policy.store import PolicyStore
from fleet.redis.client import connect
from fleet.redis.clock import ServerClock
from fleet.redis.keys import NO_POOL, Keys
from fleet.redis.scripts import Scripts
from fleet.routing.agents_store import Registry
from fleet.routing.pools_store import Pools
from fleet.routing.routes import check_strategies
from fleet.routing.rules.strategies import Strategy
from fleet.routing.snapshot import Snapshot
from fleet.routing.strategies import installed_strategies
from fleet.settings import Settings
from fleet.tasks.checks import RequestChecks
from fleet.tasks.dead_letters_store import DeadLetters
from fleet.tasks.handed_over_store import HandedOver
from fleet.tasks.model_calls_store import Steps
from fleet.tasks.on_hold_store import Parking
from fleet.tasks.outbox import Relay
from fleet.tasks.outbox_store import Outbox
from fleet.tasks.planning import Planner
from fleet.tasks.queue_index_store import Lines
from fleet.tasks.retries_store import Retries
from fleet.tasks.revocations_store import Revocations
from fleet.tasks.schedule_store import Schedule
from fleet.tasks.set_aside_store import SetAside
from fleet.tasks.store import Tasks
from fleet.tasks.submissions_store import MostWaiting, Replicas, Submissions
from fleet.tasks.submit import MessageEncoder, Submitter


@dataclass(frozen=True, slots=True)
class Connection:
    """One fleet's state, reached through one client."""

    settings: Settings
    client: Redis
    keys: Keys
    clock: ServerClock
    tasks: Tasks
    registry: Registry
    pools: Pools
    submissions: Submissions
    policies: PolicyStore
    audit: Audit
    examples: Examples
    steps: Steps
    parking: Parking
    schedule: Schedule
    lines: Lines
    relay: Relay | None
    retries: Retries
    revocations: Revocations
    dead_letters: DeadLetters
    set_aside: SetAside
    book: Book
    alerts: Alerts
    money_upkeep: MoneyUpkeep
    ledger: Ledger
    rollups: Rollups
    model_state: ModelState
    shared_prices: SharedPrices
    agents: Mapping[str, AgentSpec]
    models: Sequence[Model]
    strategies: Mapping[str, Strategy]

    def submitter(self, encode: MessageEncoder) -> Submitter:
        """The submit path, with a snapshot and plans of its own."""
        complexity = Complexity(self.policies)
        planner = Planner(
            self.settings,
            self.models,
            Snapshot(self.settings, self.pools),
            self.submissions,
            self.policies,
            self.model_state,
            self.strategies,
            complexity,
        )
        checks = RequestChecks(self.settings, self.agents, complexity)
        return Submitter(checks, planner, self.submissions, encode, self.relay)


def open_connection(settings: Settings) -> Connection:
    """Wire everything up. Nothing is sent to Redis yet. Raises `InvalidConfig`."""
    strategies = installed_strategies()
    check_strategies(settings, strategies)
    client = connect(settings.state_url, settings.environment.socket_timeout)
    keys = Keys(settings.tag)
    scripts = Scripts(client)
    limits = settings.config.limits
    most_waiting = MostWaiting(limits.waiting_per_pool, limits.waiting_per_tenant)
    redis = settings.config.redis
    replicas = Replicas(redis.min_replicas, round(redis.wait_seconds * 1000))
    leases = settings.config.leases
    dead_after = leases.dead_after_seconds
    pools = (*settings.config.pools, NO_POOL)
    clock = ServerClock(
        client, keys, scripts, pools, leases.lease_seconds, leases.renew_seconds
    )
    shared_prices = SharedPrices(client, keys, scripts)
    return Connection(
        settings=settings,
        client=client,
        keys=keys,
        clock=clock,
        tasks=Tasks(
            client,
            keys,
            scripts,
            settings.config.routing.half_life_seconds,
            limits.dead_ttl_seconds,
            settings.overflow_queue,
            clock,
        ),
        registry=Registry(client, keys, scripts),
        pools=Pools(client, keys, scripts, dead_after),
        submissions=Submissions(client, keys, scripts, dead_after, most_waiting, replicas),
        policies=PolicyStore(client, keys, scripts),
        audit=Audit(client, keys, scripts),
        examples=Examples(client, keys, scripts),
        steps=Steps(client, keys, scripts, limits.checkpoint_bytes),
        parking=Parking(client, keys, scripts),
        schedule=Schedule(client, keys, scripts),
        lines=Lines(client, keys, scripts, _queues(settings), settings.has_rabbitmq),
        relay=_relay(settings, client, keys, scripts),
        retries=Retries(client, keys, scripts, settings.config.routing.half_life_seconds),
        revocations=Revocations(client, keys, scripts),
        dead_letters=DeadLetters(client, keys, scripts),
        set_aside=SetAside(client, keys, scripts),
        book=Book(client, keys, scripts),
        alerts=Alerts(client, keys, scripts),
        money_upkeep=MoneyUpkeep(client, keys, scripts),
        ledger=Ledger(client, keys, scripts),
        rollups=Rollups(client, keys, scripts),
        model_state=ModelState(
            client, keys, scripts, settings.config.models.learn_half_life_seconds
        ),
        shared_prices=shared_prices,
        agents=installed_agents(),
        models=PricedModels(settings, os.environ, shared=shared_prices),
        strategies=strategies,
    )


def _relay(settings: Settings, client: Redis, keys: Keys, scripts: Scripts) -> Relay | None:
    if not settings.has_rabbitmq:
        return None
    # Imported here: py-amqp takes a while, which most fleets need not wait for.
    from fleet.broker.rabbitmq import RabbitMq

    queues = tuple(_queues(settings))
    return Relay(
        Outbox(client, keys, scripts, queues),
        HandedOver(client, keys, scripts, queues),
        RabbitMq(settings.broker_url, settings.environment.socket_timeout),
    )


def _queues(settings: Settings) -> dict[str, str]:
    """Every queue that tasks wait in, with its pool, '' for an overflow queue."""
    pools = {settings.queue(name): name for name in settings.config.pools}
    overflow = {settings.overflow_queue(name): "" for name in settings.config.agent_types}
    return {**pools, **overflow}
