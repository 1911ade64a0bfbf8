"""The Celery router: a `task_routes` callable that sends agent tasks to the best pool.

It runs in the publishing process at every publish. It checks the payload, plans, and hands
the plan's request on in a header. Over Fleet's transport the atomic step then takes the
exact load into account and picks the pool. Over any other the queue named here stands: the
pool with the shortest expected wait, counting this publisher's own sends since the snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kombu.utils.json import dumps

from fleet.core.pools import PoolTable
from fleet.core.routing import best_by_expected_wait
from fleet.errors import InvalidRequest
from fleet.runtime.etas import seconds_until_eta, without_eta
from fleet.runtime.messages import HEADER, TASK_PREFIX
from fleet.services.planning import Plan
from fleet.services.requests import Checked, Submission
from fleet.services.submit import Submitter, no_agent
from fleet.settings import Settings

JOB_PREFIX = "fleet."
ASKED = ("request_type", "tenant", "complexity", "quality", "speed")
HANDED_ON = (*ASKED, "payload_characters", "priority")


def jobs_queue(settings: Settings) -> str:
    """The queue of beat's jobs, which every worker of the fleet serves."""
    return f"{settings.tag}.jobs"


class FleetRouter:
    """Put an instance into `task_routes`. Tasks that are not Fleet's pass untouched."""

    def __init__(self, settings: Settings, submitter: Submitter) -> None:
        self.settings = settings
        self.submitter = submitter
        self.sent: Counter[str] = Counter()
        self.sent_since: PoolTable | None = None

    def __call__(
        self,
        name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any],
        task: Any = None,
        **_: Any,
    ) -> dict[str, Any] | None:
        if name.startswith(JOB_PREFIX):
            return {"queue": jobs_queue(self.settings)}
        if not name.startswith(TASK_PREFIX):
            return None
        agent_type = name.removeprefix(TASK_PREFIX)
        checked = self._check(agent_type, args or (), kwargs or {}, options)
        self.submitter.check_emergency(checked)
        plan = self.submitter.planner.plan(checked)
        headers = {**(options.get("headers") or {}), HEADER: _header(checked)}
        # Set in place: what a caller passed would win over what is returned.
        options["headers"] = headers
        options["argsrepr"] = f"{checked.request_type} for {checked.tenant}"
        options["kwargsrepr"] = ""
        return {"queue": self._queue(plan)}

    def _check(
        self,
        agent_type: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Checked:
        if len(args) != 1 or not isinstance(args[0], Mapping):
            raise InvalidRequest(
                f"{TASK_PREFIX}{agent_type} takes its payload as its one argument, a dictionary; "
                "send_task(name, args=[payload], kwargs={'tenant': ..., 'complexity': ...})"
            )
        unknown = set(kwargs) - set(ASKED)
        if unknown:
            raise InvalidRequest(
                f"{TASK_PREFIX}{agent_type} knows no {', '.join(sorted(unknown))}; "
                f"use {', '.join(ASKED)}"
            )
        asked = {"request_type": self._request_type(agent_type), **kwargs}
        if options.get("priority") is not None:
            asked["priority"] = options["priority"]
        return self.submitter.checks.check(Submission(payload=args[0], **asked))

    def _request_type(self, agent_type: str) -> str:
        for name, request in self.settings.config.request_types.items():
            if request.agent_type == agent_type:
                return name
        known = sorted({r.agent_type for r in self.settings.config.request_types.values()})
        raise InvalidRequest(
            f"no request type is answered by {agent_type}; agent types are: {', '.join(known)}"
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
            # Where agents cannot beat, since Redis takes no writes, that is the reason.
            self.submitter.submissions.check_writes()
            raise no_agent(plan)
        self.sent[pool] += 1
        return self.settings.queue(pool)


def _header(checked: Checked) -> dict[str, Any]:
    return {name: getattr(checked, name) for name in HANDED_ON}


class TaskPlacer:
    """Places messages that the router has planned; the transport calls it (`Link.place`)."""

    def __init__(self, submitter: Submitter) -> None:
        self.submitter = submitter

    def __call__(self, message: dict[str, Any], text: str) -> bool:
        headers = message.get("headers") or {}
        asked = headers.get(HEADER)
        if asked is None:
            return False
        request = self.submitter.checks.config.request_types[asked["request_type"]]
        checked = Checked(
            agent_type=request.agent_type,
            payload="",
            pool=None,
            model=None,
            max_cost_usd=None,
            idempotency_key=None,
            **asked,
        )
        wait = seconds_until_eta(message)
        if wait > 0:
            text = dumps(without_eta(message))
            checked = replace(checked, not_before=f"+{int(wait * 1000)}")
        self.submitter.place(headers["id"], text, checked)
        return True
