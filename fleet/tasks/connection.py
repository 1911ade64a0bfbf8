"""Builds all stores of a fleet on one Redis client. Each composition root calls this once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from redis import Redis

from fleet.access.access import Access, Guard
from fleet.access.store import TokenStore
from fleet.agent import AgentSpec, installed_agents
from fleet.audit.log import AuditLog
from fleet.audit.reads import ReadLog
from fleet.budgets.alerts_store import Alerts
from fleet.budgets.stores import BudgetStores
from fleet.budgets.upkeep_store import UsageUpkeep
from fleet.budgets.usage_store import UsageStore
from fleet.ledger.rollups_store import Rollups
from fleet.ledger.store import Ledger
from fleet.ledger.stores import LedgerStores
from fleet.models.complexity import Complexity
from fleet.models.examples_store import Examples
from fleet.models.keys import ProviderKeys
from fleet.models.priced import PricedModels
from fleet.models.prices_store import SharedPrices
from fleet.models.store import ModelState
from fleet.models.stores import ModelStores
from fleet.policy.store import PolicyStore
from fleet.policy.stores import PolicyStores
from fleet.redis.client import connect
from fleet.redis.clock import ServerClock
from fleet.redis.keys import NO_POOL, Keys
from fleet.redis.scripts import Scripts
from fleet.routing.agents_store import AgentStore
from fleet.routing.pools_store import Pools
from fleet.routing.routes import check_strategies
from fleet.routing.rules.strategies import Strategy
from fleet.routing.snapshot import Snapshot
from fleet.routing.stores import RoutingStores
from fleet.routing.strategies import installed_strategies
from fleet.secrets.current import CurrentSecrets
from fleet.secrets.rotation_store import RotationStore
from fleet.secrets.secrets import Secrets, secrets_of
from fleet.settings import Settings
from fleet.tasks.dead_letters_store import DeadLetters
from fleet.tasks.model_calls_store import ModelCallStore
from fleet.tasks.revocations_store import Revocations
from fleet.tasks.rules import ENDED
from fleet.tasks.set_aside_store import SetAside
from fleet.tasks.store import Tasks
from fleet.tasks.stores import TaskStores
from fleet.tasks.submission.checks import RequestChecks
from fleet.tasks.submission.model_planning import check_model_tasks
from fleet.tasks.submission.planning import Planner
from fleet.tasks.submission.store import MaxWaiting, Replicas, Submissions
from fleet.tasks.submission.submit import MessageEncoder, Submitter
from fleet.tasks.waiting.on_hold_store import OnHold
from fleet.tasks.waiting.queue_index_store import QueueIndex
from fleet.tasks.waiting.retries_store import RetryStore
from fleet.tasks.waiting.schedule_store import Schedule


@dataclass(frozen=True, slots=True)
class Connection:
    """One fleet, reached through one Redis client: each room's stores, the installed agents and the
    installed strategies.

    `agents` are the installed agents by agent type, `strategies` the installed ones by name.
    """

    settings: Settings
    client: Redis
    keys: Keys
    clock: ServerClock
    access: Access
    policy: PolicyStores
    routing: RoutingStores
    budgets: BudgetStores
    models: ModelStores
    ledger: LedgerStores
    tasks: TaskStores
    agents: Mapping[str, AgentSpec]
    strategies: Mapping[str, Strategy]
    secrets: Secrets
    rotations: RotationStore

    def submitter(self, encode: MessageEncoder, guard: Guard | None = None) -> Submitter:
        """A new submitter with its own snapshot and plans, for what the guard allows."""
        complexity = Complexity(self.policy.store)
        planner = Planner(
            self.settings,
            self.models.catalogue,
            Snapshot(self.settings, self.routing.pools),
            self.tasks.submissions,
            self.policy.store,
            self.models.state,
            self.strategies,
            complexity,
            self.agents,
        )
        checks = RequestChecks(self.settings, self.agents, complexity, guard)
        return Submitter(checks, planner, self.tasks.submissions, encode)


def open_connection(settings: Settings, agent: str = "") -> Connection:
    """Build the connection of a process. `agent` is the id of its agent, '' if it is none. Sends
    nothing to Redis yet. Raises `InvalidConfig`."""
    strategies, agents = installed_strategies(), installed_agents()
    check_strategies(settings, strategies)
    check_model_tasks(settings, agents)
    client = connect(settings.broker_url, settings.environment.socket_timeout)
    keys, scripts = Keys(settings.tag), Scripts(client)
    rotations, leases = RotationStore(client, keys, scripts), settings.config.leases
    clock = ServerClock(
        client,
        keys,
        scripts,
        (*settings.config.pools, NO_POOL),
        leases.lease_seconds,
        leases.renew_seconds,
    )
    audit = AuditLog(client, keys, scripts)
    secrets = _secrets(settings, rotations, ReadLog(audit, agent), agent)
    return Connection(
        settings=settings,
        client=client,
        keys=keys,
        clock=clock,
        access=Access(TokenStore(client, keys, scripts), settings.config.access.mode),
        policy=PolicyStores(PolicyStore(client, keys, scripts), audit),
        routing=RoutingStores(
            AgentStore(client, keys, scripts),
            Pools(client, keys, scripts, leases.dead_after_seconds),
        ),
        budgets=BudgetStores(
            UsageStore(client, keys, scripts),
            Alerts(client, keys, scripts),
            UsageUpkeep(client, keys, scripts, ENDED),
        ),
        models=_model_stores(settings, client, keys, scripts, secrets),
        ledger=LedgerStores(
            Ledger(client, keys, scripts),
            Rollups(client, keys, scripts),
            settings.environment.data_dir,
        ),
        tasks=_task_stores(settings, client, keys, scripts, clock),
        agents=agents,
        strategies=strategies,
        secrets=secrets,
        rotations=rotations,
    )


def _secrets(
    settings: Settings, rotations: RotationStore, reads: ReadLog, agent: str
) -> Secrets:
    """The secrets of this process, which obey the rotations. The audit has their reads."""
    seconds = settings.config.leases.heartbeat_seconds
    current = CurrentSecrets(rotations, settings.config.secrets.rotation, agent, seconds)
    secrets = secrets_of(settings, current.version, reads.note)
    current.serve(secrets)
    return secrets


def _model_stores(
    settings: Settings, client: Redis, keys: Keys, scripts: Scripts, secrets: Secrets
) -> ModelStores:
    half_life = settings.config.models.learn_half_life_seconds
    prices = SharedPrices(client, keys, scripts)
    provider_keys = ProviderKeys(settings.config.providers, os.environ, secrets)
    return ModelStores(
        state=ModelState(client, keys, scripts, half_life),
        examples=Examples(client, keys, scripts),
        prices=prices,
        keys=provider_keys,
        catalogue=PricedModels(settings, provider_keys, shared=prices),
    )


def _task_stores(
    settings: Settings, client: Redis, keys: Keys, scripts: Scripts, clock: ServerClock
) -> TaskStores:
    limits, redis = settings.config.limits, settings.config.redis
    half_life = settings.config.routing.half_life_seconds
    return TaskStores(
        records=Tasks(
            client,
            keys,
            scripts,
            half_life,
            limits.dead_ttl_seconds,
            settings.overflow_queue,
            clock,
        ),
        submissions=Submissions(
            client,
            keys,
            scripts,
            settings.config.leases.dead_after_seconds,
            MaxWaiting(limits.waiting_per_pool, limits.waiting_per_tenant),
            Replicas(redis.min_replicas, round(redis.wait_seconds * 1000)),
        ),
        model_calls=ModelCallStore(client, keys, scripts, limits.checkpoint_bytes),
        on_hold=OnHold(client, keys, scripts),
        schedule=Schedule(client, keys, scripts),
        queue_index=QueueIndex(client, keys, scripts, _queues(settings)),
        retries=RetryStore(client, keys, scripts, half_life),
        revocations=Revocations(client, keys, scripts),
        dead_letters=DeadLetters(client, keys, scripts),
        set_aside=SetAside(client, keys, scripts),
    )


def _queues(settings: Settings) -> dict[str, str]:
    """Every queue with its pool; '' for an overflow queue."""
    pools = {settings.queue(name): name for name in settings.config.pools}
    overflow = {settings.overflow_queue(name): "" for name in settings.config.agent_types}
    return {**pools, **overflow}
