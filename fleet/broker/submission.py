"""The request in a Celery message, checked as a submission: the same checks wherever a task enters.

    a router publishes the task          it is checked before it is sent
    the transport places it by header    a header of this process's router is trusted; any other
                                         is checked
    a worker claims it                   it is checked if its publisher wrote no record
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from fleet.broker.messages import TASK_PREFIX
from fleet.errors import FleetError, InvalidRequest
from fleet.settings import Settings
from fleet.tasks.submission.checks import (
    DEFAULT_PRIORITY,
    DEFAULT_TENANT,
    Checked,
    RequestChecks,
    Submission,
)
from fleet.text import brief

REQUEST_FIELDS = ("request_type", "tenant", "complexity", "quality", "speed")
HEADER_FIELDS = (*REQUEST_FIELDS, "payload_characters", "priority")


class Header(dict[str, Any]):
    """A request that a router of this process has checked, as it goes into the message's header. A
    header that is read from a message is a plain dictionary. `signer` signs the message when it is
    published, see `fleet.broker.signing.sign_published`."""

    signer: Any = None


def header_of(checked: Checked) -> Header:
    """The header for a checked request."""
    return Header({name: getattr(checked, name) for name in HEADER_FIELDS})


def checked_call(
    checks: RequestChecks,
    agent_type: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    priority: Any = None,
) -> Checked:
    """The call of an agent's task as a checked submission. Raises `InvalidRequest`."""
    name = f"{TASK_PREFIX}{agent_type}"
    if len(args) != 1 or not isinstance(args[0], Mapping):
        raise InvalidRequest(
            f"{name} takes its payload as its one argument, a dictionary; "
            "send_task(name, args=[payload], kwargs={'tenant': ..., 'complexity': ...})"
        )
    unknown = sorted(str(each) for each in set(kwargs) - set(REQUEST_FIELDS))
    if unknown:
        raise InvalidRequest(
            f"{name} has no argument {brief(', '.join(unknown))}; use {', '.join(REQUEST_FIELDS)}"
        )
    asked = {"request_type": request_type_of(checks.settings, agent_type), **kwargs}
    if priority is not None:
        asked["priority"] = priority
    _check_answered(checks.settings, agent_type, asked["request_type"])
    return checks.check(Submission(payload=args[0], **asked))


def _check_answered(settings: Settings, agent_type: str, request_type: object) -> None:
    """Raise `InvalidRequest` if another agent type answers a request type."""
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


class DeliveredRequest:
    """The request in a delivered message, for a task that has no record.

    The checks run on first use: most delivered tasks have a record, which their publisher checked.
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
        """The checked submission, or the error that refuses it."""
        named = {name: self.asked[name] for name in self.asked if name not in HEADER_FIELDS[-2:]}
        try:
            priority = self.asked.get("priority")
            return checked_call(self.checks, self.agent_type, self.args, named, priority)
        except FleetError as error:
            return error

    @property
    def refused(self) -> FleetError | None:
        """The error for which it may not run; None if it may."""
        return self.checked if isinstance(self.checked, FleetError) else None

    @property
    def tenant(self) -> str:
        """The tenant that the message names; the default one if the name is not allowed."""
        try:
            return self.checks.tenant(self.asked.get("tenant") or DEFAULT_TENANT)
        except InvalidRequest:
            return DEFAULT_TENANT

    @property
    def priority(self) -> int:
        """The priority that the message names, or the usual one."""
        priority = self.asked.get("priority")
        return priority if isinstance(priority, int) else DEFAULT_PRIORITY
