"""Checks a submission before anything is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from fleet.access.access import Guard
from fleet.access.rules import Need
from fleet.agent import AgentSpec, Payload
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.complexity import Complexity
from fleet.models.priorities import task_priorities
from fleet.policy.actor import routine_actor
from fleet.policy.rules import check_tenant
from fleet.settings import Settings
from fleet.text import brief, is_number, made_whole, unknown
from fleet.untrusted import NO_GRANTS, Grants, Tool

DEFAULT_TENANT = "default"
MAX_DOLLARS = 1_000_000
MAX_DELAY = 10 * 366 * 86_400
DEFAULT_PRIORITY = 5
MAX_PRIORITY_NUMBER = 9
MAX_NAME = 300
HALF_A_PAIR = "half a surrogate pair, which is no character"
KEY = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class Submission:
    """One task as an application submits it.

    `complexity` is 0 to 1; the default is an estimate from the payload's text. `pool` and `model`
    restrict the choice to one. `max_cost_usd` excludes models that would cost more. Submitting
    again with the same tenant and `idempotency_key` within a day returns the first task. `priority`
    is 0, the most urgent, to 9: in an emergency only 0 passes. Workers take waiting tasks oldest
    first, regardless of priority. `quality` and `speed`, 0 to 1 and at most 1 together, are the
    weights of a model's quality and speed in the choice; the default is those of the request type,
    the tenant or the configuration. A task with a `delay`, in seconds, or with a time in
    `not_before` waits in the schedule until then.

    `tools` are the tools that its agent may use; the default is those that are not outward. After
    the agent has read text of strangers, it may use an outward tool only if `approve` names it. The
    task's record keeps who `approved_by`, by default the user of the operating system. `untrusted`
    says that the payload itself is text of strangers.
    """

    request_type: str
    payload: Mapping[str, Any] | Payload
    tenant: str = DEFAULT_TENANT
    complexity: float | None = None
    pool: str | None = None
    model: str | None = None
    max_cost_usd: float | None = None
    idempotency_key: str | None = None
    priority: int = DEFAULT_PRIORITY
    delay: float | None = None
    not_before: datetime | None = None
    quality: float | None = None
    speed: float | None = None
    tools: Sequence[str] | None = None
    approve: Sequence[str] = ()
    approved_by: str = ""
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A valid submission. `payload` is JSON."""

    request_type: str
    agent_type: str
    payload: str
    tenant: str
    complexity: float
    pool: str | None
    model: str | None
    max_cost_usd: float | None
    idempotency_key: str | None
    payload_characters: int = 0
    asked_complexity: float | None = None
    """The caller's value, None if `complexity` is an estimate, which may differ next time."""
    priority: int = DEFAULT_PRIORITY
    not_before: str = ""
    """As in `fleet.tasks.submission.store.Entry`."""
    quality: float | None = None
    speed: float | None = None
    """The caller's values."""
    grants: Grants = NO_GRANTS


class RequestChecks:
    """Checks submissions against one configuration and the installed agents.

    The guard is that of the submitting process. A worker, which checks what others have submitted,
    has none.
    """

    def __init__(
        self,
        settings: Settings,
        agents: Mapping[str, AgentSpec],
        complexity: Complexity,
        guard: Guard | None = None,
    ) -> None:
        self.settings = settings
        self.guard = guard
        self.complexity = complexity
        self.config = settings.config
        self.agents = agents
        self.tenants = frozenset(settings.config.tenants)

    def check(self, asked: Submission) -> Checked:
        """Check a submission. Raises `InvalidRequest`, which says what to change, for any values: a
        message may come from anybody. Raises `NotAllowed` if the guard does not allow it."""
        try:
            return self._check(asked)
        except (PydanticSerializationError, RecursionError):
            raise InvalidRequest(
                "the payload cannot be written as JSON: it is nested too deeply, contains itself, "
                "or holds a value that JSON cannot express; send text, numbers, lists and "
                "dictionaries"
            ) from None

    def _check(self, asked: Submission) -> Checked:
        for name in ("request_type", "tenant", "pool", "model", "idempotency_key"):
            value = getattr(asked, name)
            is_left_out = value is None and name not in ("request_type", "tenant")
            if not isinstance(value, str) and not is_left_out:
                raise InvalidRequest(f"{name} is {brief(value)}; give a string")
        request = self.config.request_types.get(asked.request_type)
        if request is None:
            raise InvalidRequest(
                unknown("request type", asked.request_type, self.config.request_types)
            )
        if asked.pool is not None and asked.pool not in self.config.pools:
            raise InvalidRequest(unknown("pool", asked.pool, self.config.pools))
        if asked.model is not None and len(asked.model) > MAX_NAME:
            raise InvalidRequest(
                f"no model is called {brief(asked.model)}; use a name that `fleet models` shows"
            )
        payload = self._payload(request.agent_type, asked)
        tenant = self.tenant(self._submitting(asked.tenant))
        quality, speed = self._priorities(asked, tenant)
        return Checked(
            request_type=asked.request_type,
            agent_type=request.agent_type,
            payload=payload,
            tenant=tenant,
            complexity=self._complexity(asked.complexity, payload),
            pool=asked.pool,
            model=asked.model,
            max_cost_usd=self._max_cost(asked.max_cost_usd),
            idempotency_key=self._idempotency_key(asked.idempotency_key),
            payload_characters=len(payload),
            asked_complexity=asked.complexity,
            priority=_priority(asked.priority),
            not_before=_not_before(asked.delay, asked.not_before),
            quality=quality,
            speed=speed,
            grants=self._grants(request.agent_type, asked),
        )

    def _grants(self, agent_type: str, asked: Submission) -> Grants:
        if asked.tools is None and not asked.approve and asked.untrusted is False:
            return NO_GRANTS
        tools = self.spec(agent_type).tools
        chosen = None if asked.tools is None else _tool_names("tools", asked.tools, tools)
        approved = _tool_names("approve", asked.approve, tools)
        if not isinstance(asked.untrusted, bool):
            raise InvalidRequest(f"untrusted is {brief(asked.untrusted)}; give True or False")
        by = routine_actor(asked.approved_by).by if approved else ""
        return Grants(chosen, approved, by, asked.untrusted)

    def spec(self, agent_type: str) -> AgentSpec:
        """The installed agent of a type. Raises `InvalidConfig` if there is none."""
        spec = self.agents.get(agent_type)
        if spec is None:
            raise InvalidConfig(
                f"{self.settings.source}: agent_types.{agent_type}: no installed package provides "
                "this agent; install one with an entry point in fleet.agents"
            )
        return spec

    def _payload(self, agent_type: str, asked: Submission) -> str:
        limits = self.config.limits
        model = self.spec(agent_type).payload
        return checked_payload(model, asked.request_type, asked.payload, limits.payload_bytes)[1]

    def tenant(self, tenant: object) -> str:
        """The same name, if it is a valid tenant. Raises `InvalidRequest`."""
        if not isinstance(tenant, str):
            raise InvalidRequest(f"tenant is {brief(tenant)}; give a string")
        if self.tenants and tenant not in self.tenants:
            raise InvalidRequest(unknown("tenant", tenant, self.tenants))
        check_tenant(tenant)
        return tenant

    def _submitting(self, tenant: str) -> str:
        """The tenant that the process submits for: its own instead of the default one."""
        if self.guard is None:
            return tenant
        self.guard.check(Need("submit"), "submitting a task")
        return self.guard.submits_for(tenant, DEFAULT_TENANT)

    def _complexity(self, complexity: float | None, payload: str) -> float:
        if complexity is None:
            return self.complexity.estimate(payload)
        if not is_number(complexity) or not 0 <= complexity <= 1:
            raise InvalidRequest(f"complexity is {brief(complexity)}; give a number from 0 to 1")
        return float(complexity)

    def _priorities(self, asked: Submission, tenant: str) -> tuple[float | None, float | None]:
        if asked.quality is None and asked.speed is None:
            return None, None
        given = asked.quality, asked.speed
        return task_priorities(self.config, asked.request_type, tenant, *given).asked

    def _max_cost(self, dollars: float | None) -> float | None:
        is_given = dollars is not None
        if is_given and not (is_number(dollars) and 0 <= dollars <= MAX_DOLLARS):
            raise InvalidRequest(
                f"max_cost_usd is {brief(dollars)}; give an amount of dollars from 0 to "
                f"{MAX_DOLLARS:,}"
            )
        return dollars

    def _idempotency_key(self, key: str | None) -> str | None:
        if key is not None and not KEY.fullmatch(key):
            raise InvalidRequest(
                "the idempotency key must be 1 to 200 printable ASCII characters without spaces"
            )
        return key


def _tool_names(
    option: str, names: Sequence[str], tools: Mapping[str, Tool]
) -> tuple[str, ...]:
    """The names of tools, sorted. Raises `InvalidRequest` for one that the agent does not have."""
    is_list = isinstance(names, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"{option} is {brief(names)}; give a list of names of tools")
    for name in names:
        if name not in tools:
            raise InvalidRequest(unknown("tool of this agent", name, tools))
    return tuple(sorted(set(names)))


def _priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidRequest(f"priority is {brief(priority)}; give a whole number from 0 to 9")
    if not 0 <= priority <= MAX_PRIORITY_NUMBER:
        raise InvalidRequest(f"priority is {brief(priority)}; give 0, the most urgent, to 9")
    return priority


def _not_before(delay: float | None, moment: datetime | None) -> str:
    """The stored form of a delay or a time: see `fleet.tasks.submission.store.Entry`."""
    if delay is not None and moment is not None:
        raise InvalidRequest("delay and not_before are both given; give one of them")
    if moment is not None:
        return _moment(moment)
    if delay is None:
        return ""
    if not is_number(delay):
        raise InvalidRequest(f"delay is {brief(delay)}; give a number of seconds")
    if not 0 <= delay <= MAX_DELAY:
        raise InvalidRequest(f"delay is {brief(delay)}; give seconds from 0 to {MAX_DELAY:,}")
    return f"+{round(delay * 1000)}"


def _moment(moment: datetime) -> str:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidRequest(
            f"not_before is {brief(moment)}; give a datetime with a time zone, such as "
            "datetime.now(UTC) + timedelta(hours=1)"
        )
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    return str(max(0, round(seconds * 1000)))


def checked_payload(
    model: type[Payload], request_type: str, payload: object, max_bytes: int
) -> tuple[Payload, str]:
    """The payload as its agent's type, and as JSON. Raises `InvalidRequest`."""
    try:
        found = payload if isinstance(payload, model) else model.model_validate(payload)
    except ValidationError as error:
        raise InvalidRequest(_payload_faults(request_type, error)) from None
    except RecursionError:
        raise
    except Exception as error:
        # An agent's own check may raise anything, and its message may contain the payload.
        raise InvalidRequest(
            f"the payload does not suit {request_type}: checking it raised {type(error).__name__}"
        ) from None
    text = _payload_json(request_type, found)
    size = len(text.encode())
    if size > max_bytes:
        raise InvalidRequest(
            f"the payload has {size:,} bytes, more than the {max_bytes:,} allowed; send less, or "
            "send the names of files instead of their content"
        )
    return found, text


def _payload_json(request_type: str, payload: Payload) -> str:
    """The payload as JSON. Raises `InvalidRequest` for a value that JSON cannot express."""
    try:
        text = payload.model_dump_json(exclude_defaults=True)
        # A null in the JSON may stand for a non-finite number, which would be lost.
        if "null" in text:
            json.dumps(payload.model_dump(exclude_defaults=True), allow_nan=False, default=str)
    except (PydanticSerializationError, ValueError) as error:
        number = "float" in str(error)
        found = "a number that is not finite" if number else f"{HALF_A_PAIR}, or a non-JSON value"
        raise InvalidRequest(
            f"the payload does not suit {request_type}: it holds {found}; send text and numbers "
            "that JSON can express"
        ) from None
    return text


def _payload_faults(request_type: str, error: ValidationError) -> str:
    # Without the given values: a payload may hold what must not be in a log.
    faults = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "payload"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "string_unicode":
            message = f"holds {HALF_A_PAIR}"
        faults.append(f"{where}: {message}")
    return made_whole(f"the payload does not suit {request_type}: " + "; ".join(faults))
