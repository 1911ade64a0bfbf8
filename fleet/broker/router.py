"""The Celery router: a `task_routes` callable that sends agent tasks to the best pool.

It runs in the publishing process at every publish. It checks the payload, plans, and puts the
checked request into a header. Over Fleet's transport, the atomic step then picks the pool by the
exact load. Over any other transport the queue named here stands: that of the pool with the
shortest expected wait, counting this publisher's own sends since the snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kombu.utils.json import dumps

from fleet.broker.known_tasks import JOBS
from fleet.broker.messages import (
    HEADER,
    TASK_PREFIX,
    Signer,
    agent_tasks_of,
    seconds_until_eta,
    without_eta,
)
from fleet.broker.signing import sign_what_is_published
from fleet.broker.submission import REQUEST_FIELDS, Header, checked_call, header_of
from fleet.broker.whole_groups import group_that_is_sent
from fleet.errors import InvalidRequest
from fleet.routing.rules.pools import PoolTable
from fleet.routing.rules.routing import best_by_expected_wait
from fleet.settings import Settings
from fleet.tasks.kept_messages import payload_of
from fleet.tasks.submission.checks import Checked
from fleet.tasks.submission.planning import Plan
from fleet.tasks.submission.refusals import no_agent
from fleet.tasks.submission.submit import Ready, Submitter


def jobs_queue(settings: Settings) -> str:
    """The queue of beat's jobs, which every worker of the fleet serves."""
    return f"{settings.tag}.jobs"


class FleetRouter:
    """Put an instance into `task_routes`. It leaves tasks that are not Fleet's to other routes."""

    def __init__(
        self, settings: Settings, submitter: Submitter, signer: Signer | None = None
    ) -> None:
        """`signer` signs agents' tasks where nothing else does: see `task_routes`."""
        self.settings = settings
        self.submitter = submitter
        self.signer = signer
        self.agent_tasks = agent_tasks_of(settings.config)
        self.sent: Counter[str] = Counter()
        self.sent_since: PoolTable | None = None

    def places(self, name: str) -> bool:
        """Whether a task is one of Fleet's: of a configured agent type, or a job of beat's. Any
        other task is a user's own, whatever prefix its name has."""
        return name in self.agent_tasks or name in JOBS

    def __call__(
        self,
        name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any],
        task: Any = None,
        **_: Any,
    ) -> dict[str, Any] | None:
        _check_is_no_map(kwargs or {}, self.agent_tasks)
        if not self.places(name):
            return None
        if name in JOBS:
            return {"queue": jobs_queue(self.settings)}
        self._check_place(name, options)
        agent_type = name.removeprefix(TASK_PREFIX)
        called = (args or (), kwargs or {}, options.get("priority"))
        checked = checked_call(self.submitter.checks, agent_type, *called)
        self.submitter.check_emergency(checked)
        plan = self.submitter.planner.plan(checked)
        asked = header_of(checked)
        if self.signer is not None:
            asked.signer = self.signer
            sign_what_is_published()
        headers = {**(options.get("headers") or {}), HEADER: asked}
        # Set in place: options of the caller override those of the returned route.
        options["headers"] = headers
        options["argsrepr"] = f"{checked.request_type} for {checked.tenant}"
        options["kwargsrepr"] = ""
        # Every agent reads JSON, whatever serializer the application's own tasks have.
        options["serializer"] = "json"
        return {"queue": self._queue(plan)}

    def _check_place(self, name: str, options: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest` for a queue that is not the fleet's. A task that is sent again
        names the fleet's queue that it came from."""
        queue = options.get("queue")
        place = getattr(queue, "name", queue) or options.get("routing_key")
        if place and not str(place).startswith(self.settings.tag + "."):
            raise InvalidRequest(
                f"{name} is placed by Fleet, and queue {place} is not one of the fleet's; leave "
                "the queue out, also in task_annotations, and choose pools in fleet.toml"
            )

    def _queue(self, plan: Plan) -> str:
        planner, snapshot = self.submitter.planner, self.submitter.planner.snapshot
        if self.sent_since is not snapshot.table:
            self.sent.clear()
            self.sent_since = snapshot.table
        pool = best_by_expected_wait(snapshot.table, plan.agent_type, self.sent)
        if pool is None:
            planner.refresh()
            pool = best_by_expected_wait(snapshot.table, plan.agent_type, self.sent)
        if pool is None:
            pools = snapshot.table.group(plan.agent_type).pools
            names = [each.name for each in pools if each.agent_type == plan.agent_type]
            pool = snapshot.pools.will_start(names)
        if pool is None:
            # If Redis takes no writes, agents cannot send heartbeats: then this is the reason.
            self.submitter.submissions.check_writes()
            raise no_agent(plan)
        self.sent[pool] += 1
        return self.settings.queue(pool)


def _check_is_no_map(kwargs: Mapping[str, Any], agent_tasks: Collection[str]) -> None:
    """Raise `InvalidRequest` for map, starmap and chunks of an agent's task. Celery routes these by
    the name of the task within, or by their own."""
    within = kwargs.get("task") if "it" in kwargs else None
    name = str(within.get("task")) if isinstance(within, Mapping) else ""
    if name in agent_tasks:
        raise InvalidRequest(
            f"map, starmap and chunks run many calls of {name} as one plain task, without records, "
            "leases and budgets; send them as a group, which is checked and held as a whole"
        )


class TaskPlacer:
    """Places messages that the router has planned; the transport calls it (`Link.place`)."""

    def __init__(self, submitter: Submitter) -> None:
        self.submitter = submitter
        self.agent_tasks = agent_tasks_of(submitter.checks.config)

    def __call__(self, message: dict[str, Any], text: str) -> bool:
        headers = message.get("headers") or {}
        asked = headers.get(HEADER)
        if str(headers.get("task")) not in self.agent_tasks or not isinstance(asked, Mapping):
            # In a task that is not Fleet's, a header of this name is its publisher's own.
            return False
        checked = self._checked(asked, headers, text)
        wait = seconds_until_eta(message)
        if wait > 0:
            text = dumps(without_eta(message))
            checked = replace(checked, not_before=f"+{int(wait * 1000)}")
        group = group_that_is_sent()
        if group is not None:
            group.tasks.append(Ready(headers["id"], text, checked))
        else:
            self.submitter.place(headers["id"], text, checked)
        return True

    def _checked(self, asked: Any, headers: Mapping[str, Any], text: str) -> Checked:
        """The checked request. Raises `InvalidRequest`."""
        checks = self.submitter.checks
        if not isinstance(asked, Header):
            # No router of this process has written this header, so its content is unchecked.
            named = {name: asked[name] for name in REQUEST_FIELDS if name in asked}
            agent_type = str(headers.get("task")).removeprefix(TASK_PREFIX)
            payload = [payload_of(text)]
            asked = header_of(
                checked_call(checks, agent_type, payload, named, asked.get("priority"))
            )
        return Checked(
            agent_type=checks.config.request_types[asked["request_type"]].agent_type,
            payload="",
            pool=None,
            model=None,
            max_cost_usd=None,
            idempotency_key=None,
            **asked,
        )
