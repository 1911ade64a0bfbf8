"""What a message asks of Fleet, as a submission: the same checks wherever a task enters.

    a router publishes it        checked before it is sent
    it is placed by its header   the router's own is trusted; one that anybody else wrote is checked
    a worker claims it           where its publisher wrote no record
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from fleet.broker.messages import TASK_PREFIX
from fleet.errors import FleetError, InvalidRequest
from fleet.settings import Settings
from fleet.tasks.submission.checks import (
    DEFAULT_TENANT,
    USUAL_PRIORITY,
    Checked,
    RequestChecks,
    Submission,
)
from fleet.text import brief

ASKED = ("request_type", "tenant", "complexity", "quality", "speed")
HANDED_ON = (*ASKED, "payload_characters", "priority")


class Header(dict[str, Any]):
    """What a router has checked, and hands on in a header. As read from a message it is none."""


def header_of(checked: Checked) -> Header:
    """What is handed on."""
    return Header({name: getattr(checked, name) for name in HANDED_ON})


def checked_call(
    checks: RequestChecks,
    agent_type: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    priority: Any = None,
) -> Checked:
    """The call of an agent's task as a submission, in order. Raises `InvalidRequest`."""
    name = f"{TASK_PREFIX}{agent_type}"
    if len(args) != 1 or not isinstance(args[0], Mapping):
        raise InvalidRequest(
            f"{name} takes its payload as its one argument, a dictionary; "
            "send_task(name, args=[payload], kwargs={'tenant': ..., 'complexity': ...})"
        )
    unknown = sorted(str(each) for each in set(kwargs) - set(ASKED))
    if unknown:
        raise InvalidRequest(
            f"{name} knows no {brief(', '.join(unknown))}; use {', '.join(ASKED)}"
        )
    asked = {"request_type": request_type_of(checks.settings, agent_type), **kwargs}
    if priority is not None:
        asked["priority"] = priority
    _check_answered(checks.settings, agent_type, asked["request_type"])
    return checks.check(Submission(payload=args[0], **asked))


def _check_answered(settings: Settings, agent_type: str, request_type: object) -> None:
    """Raise `InvalidRequest` where another agent type answers a request type."""
    found = isinstance(request_type, str) and settings.config.request_types.get(request_type)
    if found and found.agent_type != agent_type:
        raise InvalidRequest(
            f"{request_type} is answered by {found.agent_type}, not by {agent_type}; "
            f"send {TASK_PREFIX}{found.agent_type}"
        )


def request_type_of(settings: Settings, agent_type: str) -> str:
    """The first request type that an agent type answers. Raises `InvalidRequest`."""
    for name, request in settings.config.request_types.items():
        if request.agent_type == agent_type:
            return name
    known = sorted({r.agent_type for r in settings.config.request_types.values()})
    raise InvalidRequest(
        f"no request type is answered by {agent_type}; agent types are: {', '.join(known)}"
    )


class Delivered:
    """What a delivered message asks for, where there is no record of its task.

    It is checked when it is first asked about: most deliveries are of tasks that have a record,
    whose publisher was checked.
    """

    def __init__(
        self, checks: RequestChecks, agent_type: str, args: Sequence[Any], asked: Mapping[str, Any]
    ) -> None:
        self.checks = checks
        self.agent_type = agent_type
        self.args = args
        self.asked = asked

    @cached_property
    def checked(self) -> Checked | FleetError:
        """The submission, in order, or why it is none."""
        named = {name: self.asked[name] for name in self.asked if name not in HANDED_ON[-2:]}
        try:
            priority = self.asked.get("priority")
            return checked_call(self.checks, self.agent_type, self.args, named, priority)
        except FleetError as error:
            return error

    @property
    def refused(self) -> FleetError | None:
        """Why it may not run."""
        return self.checked if isinstance(self.checked, FleetError) else None

    @property
    def tenant(self) -> str:
        """Whose it is: where nobody may say so, the default one's."""
        try:
            return self.checks.tenant(self.asked.get("tenant") or DEFAULT_TENANT)
        except InvalidRequest:
            return DEFAULT_TENANT

    @property
    def priority(self) -> int:
        """How urgent it is."""
        priority = self.asked.get("priority")
        return priority if isinstance(priority, int) else USUAL_PRIORITY
