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
from fleet.runtime.asked import ASKED, Header, checked_call, header_of
from fleet.runtime.etas import seconds_until_eta, without_eta
from fleet.runtime.messages import HEADER, TASK_PREFIX
from fleet.services.kept_messages import payload_of
from fleet.services.planning import Plan
from fleet.services.requests import Checked
from fleet.services.submit import Submitter, no_agent
from fleet.settings import Settings

JOB_PREFIX = "fleet."


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
        called = (args or (), kwargs or {}, options.get("priority"))
        checked = checked_call(self.submitter.checks, agent_type, *called)
        self.submitter.check_emergency(checked)
        plan = self.submitter.planner.plan(checked)
        headers = {**(options.get("headers") or {}), HEADER: header_of(checked)}
        # Set in place: what a caller passed would win over what is returned.
        options["headers"] = headers
        options["argsrepr"] = f"{checked.request_type} for {checked.tenant}"
        options["kwargsrepr"] = ""
        return {"queue": self._queue(plan)}

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


class TaskPlacer:
    """Places messages that the router has planned; the transport calls it (`Link.place`)."""

    def __init__(self, submitter: Submitter) -> None:
        self.submitter = submitter

    def __call__(self, message: dict[str, Any], text: str) -> bool:
        headers = message.get("headers") or {}
        asked = headers.get(HEADER)
        is_agents = str(headers.get("task", "")).startswith(TASK_PREFIX)
        if not isinstance(asked, Mapping) or not is_agents:
            return False
        checked = self._checked(asked, headers, text)
        wait = seconds_until_eta(message)
        if wait > 0:
            text = dumps(without_eta(message))
            checked = replace(checked, not_before=f"+{int(wait * 1000)}")
        self.submitter.place(headers["id"], text, checked)
        return True

    def _checked(self, asked: Any, headers: Mapping[str, Any], text: str) -> Checked:
        """What is asked for, in order. Raises `InvalidRequest`."""
        checks = self.submitter.checks
        if not isinstance(asked, Header):
            # Nobody's word for it: the header is none that a router of this process has written.
            named = {name: asked[name] for name in ASKED if name in asked}
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
