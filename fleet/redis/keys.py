"""The names of all keys in Redis. No other module spells one.

Every key begins with the fleet's hash tag, such as `{fleet}`, so that all of them share a
Redis Cluster slot and each script may touch several at once.

    {fleet}:task:ID            hash     a task's record: request, decision, state, lease, result
    {fleet}:saved:ID           hash     a task's checkpoints, by name: when, by whom, JSON
    {fleet}:tasks              zset     task ids by the time of their submission, ms
    {fleet}:once:TENANT:KEY    string   task id and fingerprint behind an idempotency key
    {fleet}:leases             zset     ids of running tasks by the time their lease ends, ms
    {fleet}:cancelled          set      ids of running tasks that are cancelled
    {fleet}:done:ID            channel  announces that a task has ended
    {fleet}:pools              set      names of pools that had an agent
    {fleet}:pool:NAME          hash     slots of an agent; outcomes and response time, over all and
                                        by request type; health; whether it is in maintenance;
                                        how many runs began and ended, and how long they took
    {fleet}:pool:NAME:agents   zset     the pool's agents by their last heartbeat, ms
    {fleet}:pool:NAME:in_flight set     ids of tasks that hold one of the pool's slots
    {fleet}:pool:NAME:unacked[_index|_mutex]   Kombu's messages that a worker holds
    {fleet}:pool:NAME:scaling  hash     the last decision on the pool's size, and what it knew
    {fleet}:pool:NAME:arrivals hash     how many tasks arrived, by interval
    {fleet}:pool:NAME:starting hash     workers that each supervisor has started and that are not
                                        ready, and when it said so, ms
    {fleet}:pool:NAME:starter  string   the supervisor that starts the pool's workers (a lease)
    {fleet}:scaling:history    stream   decisions that changed the size of a pool, and why
    {fleet}:agents             set      ids of known agents
    {fleet}:agent:ID           hash     an agent: pool, slots, status, load, where it runs
    {fleet}:agent:ID:wake      list     an agent in maintenance waits on it; it is never fed
    {fleet}:policy             hash     the policy of all producers: routes, limits, version
    {fleet}:audit              stream   changes of the policy, acts on secrets, grants, and reads of
                                        secrets, each chained to the entry before by its hash
    {fleet}:audit:head         hash     the number and hash of its last entry, and of the last one
                                        that was trimmed
    {fleet}:tokens             hash     what each token grants, as JSON, by the token's SHA-256
    {fleet}:change:ID          string   the answer to a change of the policy, or to another entry
                                        of the audit
    {fleet}:models             hash     evidence of models, and their cool-downs
    {fleet}:key:ID             hash     a provider's key: what it has spent in a UTC day, what its
                                        calls in flight bind, and by model how many are in flight
                                        and how many its provider allows
    {fleet}:key:ID:calls       zset     the key's calls in flight, by the end of their places, ms
    {fleet}:key:ID:queue:MODEL zset     calls that wait for a place, by when they came, ms
    {fleet}:prices             hash     the price data of the last refresh, and its version
    {fleet}:clock              string   until when no lease ends, since the clock was set, ms
    {fleet}:secrets            hash     the current version of each secret, and the generation: how
                                        often one has changed; never a value
    {fleet}:secrets:rotations  hash     the rotation of each secret as JSON: versions, stages, times
    {fleet}:secrets:processes  hash     which versions each process has and uses, and since when
    {fleet}:secrets:set:NAME   string   who rotates a secret of this set now (a lease)
    {fleet}:beat               string   who is beat now (a lease)
    {fleet}:beat:runs          hash     when each job of beat began last, ms
    {fleet}:health             hash     beat's last health summary
    {fleet}:spend:report       hash     beat's last spend report, and when it was made
    {fleet}:examples           stream   outcomes of tasks: type, model, reward, text features
    {fleet}:ledger             stream   spending: an entry for each settled model call
    {fleet}:ledger:corrections hash     corrections by the names they were sent under; their sums
    {fleet}:ledger:archives    list     files with the entries that were trimmed from the ledger
    {fleet}:money              hash     usage counters: what each scope has spent, by hour, day
                                        and month, and holds
    {fleet}:reservations       hash     the amount held for each task that has not ended
    {fleet}:open_steps         hash     the amount bound by each model call in flight
    {fleet}:orphans            hash     the cursors of the search for holds without a task
    {fleet}:alerts             stream   budget alerts: the limit, and its usage
    {fleet}:alerted:WINDOW     set      thresholds and scopes already alerted in an hour, day, month
    {fleet}:parked             zset     ids of tasks on hold (waiting for budget or retry), by
                                        their time, ms
    {fleet}:delayed            zset     ids of tasks that wait for their time, by it, ms
    {fleet}:deferred           zset     other messages that wait for their time, by it, ms
    {fleet}:revoked            zset     ids of tasks revoked through Celery, by when, us
    {fleet}:revoked:stamps     zset     stamps revoked through Celery, as JSON, by when, us
    {fleet}:replicated         string   a counter that is written to measure the replicas' lag
    {fleet}:waiting            hash     waiting tasks of each tenant: queued, delayed, on hold
    {fleet}:dead               zset     ids of dead letters by the time they failed, ms
    {fleet}:set_aside          stream   messages that no worker can take: queue, reason, beginning
    {fleet}:set_aside:count    string   how many there have been in all
    {fleet}:set_aside:seen:SHA string   marks a broadcast as set aside, for a minute
    {fleet}:rollups            set      hours and days that have a roll-up
    {fleet}:rollup:cursor      string   the last entry of the ledger that is rolled up
    {fleet}:rollup:h:HOUR, :d:DAY   hash   sums of the ledger's entries by all their names
    QUEUE                      list     messages; QUEUE is {fleet}.POOL or {fleet}.overflow.TYPE
    QUEUE:wake                 list     at most one token: there are messages to claim
    QUEUE:pushed:TAG           string   marks a plain publisher's message as pushed, for a minute
    QUEUE:line                 zset     the queue index: ids of the queue's tasks, in its order: by
                                        arrival time, us, or by the negative time at which they
                                        were put in front
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NO_POOL = "none"
"""The pool under which a worker that is no agent notes the messages that it holds."""


@dataclass(frozen=True, slots=True)
class PoolKeys:
    """The keys of one pool."""

    facts: str
    agents: str
    in_flight: str
    unacked: str
    unacked_index: str
    unacked_mutex: str
    scaling: str
    arrivals: str
    starting: str
    starter: str


class PlaceKeys(NamedTuple):
    """The names for the places of one provider's key with one model."""

    facts: str
    calls: str
    queue: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one fleet. `tag` is its hash tag, braces included."""

    tag: str

    @property
    def tasks(self) -> str:
        return f"{self.tag}:tasks"

    @property
    def leases(self) -> str:
        return f"{self.tag}:leases"

    @property
    def cancelled(self) -> str:
        return f"{self.tag}:cancelled"

    @property
    def pools(self) -> str:
        return f"{self.tag}:pools"

    @property
    def agents(self) -> str:
        return f"{self.tag}:agents"

    @property
    def policy(self) -> str:
        return f"{self.tag}:policy"

    @property
    def audit(self) -> str:
        return f"{self.tag}:audit"

    @property
    def tokens(self) -> str:
        return f"{self.tag}:tokens"

    @property
    def audit_head(self) -> str:
        return f"{self.tag}:audit:head"

    @property
    def scaling_history(self) -> str:
        return f"{self.tag}:scaling:history"

    @property
    def models(self) -> str:
        return f"{self.tag}:models"

    def places(self, key_id: str, model: str) -> PlaceKeys:
        """The places of a key with a model. Without a key the names are declared and not used."""
        own = f"{self.tag}:key:{key_id}"
        return PlaceKeys(own, f"{own}:calls", f"{own}:queue:{model}")

    @property
    def prices(self) -> str:
        return f"{self.tag}:prices"

    @property
    def clock(self) -> str:
        return f"{self.tag}:clock"

    @property
    def secrets(self) -> str:
        return f"{self.tag}:secrets"

    @property
    def rotations(self) -> str:
        return f"{self.tag}:secrets:rotations"

    @property
    def secret_processes(self) -> str:
        return f"{self.tag}:secrets:processes"

    def secret_set(self, name: str) -> str:
        return f"{self.tag}:secrets:set:{name}"

    @property
    def beat(self) -> str:
        return f"{self.tag}:beat"

    @property
    def beat_runs(self) -> str:
        return f"{self.tag}:beat:runs"

    @property
    def health(self) -> str:
        return f"{self.tag}:health"

    @property
    def spend_report(self) -> str:
        return f"{self.tag}:spend:report"

    @property
    def examples(self) -> str:
        return f"{self.tag}:examples"

    @property
    def ledger(self) -> str:
        return f"{self.tag}:ledger"

    @property
    def corrections(self) -> str:
        return f"{self.tag}:ledger:corrections"

    @property
    def archives(self) -> str:
        return f"{self.tag}:ledger:archives"

    @property
    def money(self) -> str:
        return f"{self.tag}:money"

    @property
    def reservations(self) -> str:
        return f"{self.tag}:reservations"

    @property
    def open_steps(self) -> str:
        return f"{self.tag}:open_steps"

    @property
    def orphans(self) -> str:
        return f"{self.tag}:orphans"

    @property
    def alerts(self) -> str:
        return f"{self.tag}:alerts"

    @property
    def parked(self) -> str:
        return f"{self.tag}:parked"

    @property
    def delayed(self) -> str:
        return f"{self.tag}:delayed"

    @property
    def deferred(self) -> str:
        return f"{self.tag}:deferred"

    @property
    def revoked(self) -> str:
        return f"{self.tag}:revoked"

    @property
    def revoked_stamps(self) -> str:
        return f"{self.tag}:revoked:stamps"

    @property
    def waiting(self) -> str:
        return f"{self.tag}:waiting"

    @property
    def replicated(self) -> str:
        return f"{self.tag}:replicated"

    @property
    def dead(self) -> str:
        return f"{self.tag}:dead"

    @property
    def set_aside(self) -> str:
        return f"{self.tag}:set_aside"

    @property
    def set_aside_count(self) -> str:
        return f"{self.tag}:set_aside:count"

    def set_aside_seen(self, digest: str) -> str:
        return f"{self.tag}:set_aside:seen:{digest}"

    @property
    def rollups(self) -> str:
        return f"{self.tag}:rollups"

    @property
    def rollup_cursor(self) -> str:
        return f"{self.tag}:rollup:cursor"

    def change(self, change_id: str) -> str:
        return f"{self.tag}:change:{change_id}"

    def rollup(self, period: str) -> str:
        """Of an hour or a day, as YYYYMMDDHH or YYYYMMDD."""
        return f"{self.tag}:rollup:{'h' if len(period) == 10 else 'd'}:{period}"

    def alerted(self, window: str) -> str:
        """Of an hour, a day or a month, such as `d20261124`."""
        return f"{self.tag}:alerted:{window}"

    def task(self, task_id: str) -> str:
        return f"{self.tag}:task:{task_id}"

    def saved(self, task_id: str) -> str:
        return f"{self.tag}:saved:{task_id}"

    def done(self, task_id: str) -> str:
        return f"{self.tag}:done:{task_id}"

    def once(self, tenant: str, idempotency_key: str) -> str:
        return f"{self.tag}:once:{tenant}:{idempotency_key}"

    def agent(self, agent_id: str) -> str:
        return f"{self.tag}:agent:{agent_id}"

    def pool(self, name: str) -> PoolKeys:
        root = f"{self.tag}:pool:{name}"
        return PoolKeys(
            facts=root,
            agents=f"{root}:agents",
            in_flight=f"{root}:in_flight",
            unacked=f"{root}:unacked",
            unacked_index=f"{root}:unacked_index",
            unacked_mutex=f"{root}:unacked_mutex",
            scaling=f"{root}:scaling",
            arrivals=f"{root}:arrivals",
            starting=f"{root}:starting",
            starter=f"{root}:starter",
        )


def celery_keys() -> tuple[str, ...]:
    """Patterns of the keys that Celery and Kombu name themselves: routes, results of tasks and of
    groups, and the queues of events and of remote control."""
    results = ("celery-task-meta-*", "celery-taskset-meta-*")
    return ("_kombu.binding*", *results, "celeryev.*", "*.celery.pidbox*")


def queue_keys(tag: str) -> tuple[str, ...]:
    """Patterns of the keys of all queues of a fleet."""
    return (f"{tag}.*",)


def done_channels(tag: str) -> tuple[str, ...]:
    """Patterns of the channels on which ends of tasks are announced: Fleet's and Celery's."""
    return (f"{tag}:done:*", "celery-task-meta-*")


def fanout_channels(database: int) -> dict[str, str]:
    """Patterns of Kombu's channels of events and of remote control, by what they are for."""
    return {"events": f"/{database}.celeryev/*", "control": f"/{database}.celery.pidbox"}


def wake(queue: str) -> str:
    """The list that holds a token while a queue has messages to claim."""
    return f"{queue}:wake"


def pushed(queue: str, delivery_tag: str) -> str:
    """The mark of a message that was pushed to a queue, so that it is pushed once."""
    return f"{queue}:pushed:{delivery_tag}"


def line(queue: str) -> str:
    """The queue index: the ids of the tasks in a queue, or in one of its `lists`, in its order."""
    return f"{queue}:line"


SEPARATOR = "\x06\x16"
"""Kombu's, between a queue's name and a priority."""
PRIORITIES = ("", *(f"{SEPARATOR}{priority}" for priority in (3, 6, 9)))


def lists(queue: str) -> tuple[str, ...]:
    """The lists in which Kombu keeps a queue, by priority. Fleet pushes to the first. Kombu
    requeues a message with another priority into one of the others."""
    return tuple(queue + priority for priority in PRIORITIES)


def whole(queue: str) -> str:
    """The queue that one of its `lists` belongs to."""
    return queue.partition(SEPARATOR)[0]


def own_queue_keys(queue: str) -> tuple[str, ...]:
    """Patterns of the keys of one queue: its lists, its index and its marks."""
    return (queue, f"{queue}:*", f"{queue}{'?' * len(SEPARATOR)}?")
