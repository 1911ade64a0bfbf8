"""Every error that Fleet raises on purpose. Each class means one action for the caller.

The message of an error always says what was wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence


class FleetError(Exception):
    """The root of the tree: catch this to catch anything that Fleet raises on purpose."""

    reason = ""
    """Of a provider's standing fault: why its key or model is left alone for long, in few words."""


class RetryLater(FleetError):
    """Nothing is wrong with the request: the same call may succeed after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(RetryLater):
    """A service that Fleet needs (Redis, a model provider) did not answer. Nothing was written, but
    where it timed out: then it may have been. With an idempotency key it is safe to submit again.

    `may_be_served` says that a provider may have done, and will bill, what it gave no answer to.
    `reply` is the `ModelReply` that tells what the failed call took, where the provider told it.
    """

    def __init__(
        self,
        message: str,
        retry_after: float = 1.0,
        *,
        may_be_served: bool = False,
        reply: object = None,
    ) -> None:
        super().__init__(message, retry_after)
        self.may_be_served = may_be_served
        self.reply = reply


class NotReplicated(RetryLater):
    """The tasks are written, and fewer replicas than `redis.min_replicas` have them: should the
    master be lost now, they may be too. `task_ids` names them.

    Most of them end as any other. After a failover `Fleet.task` tells which are there; with an
    idempotency key it is safe to submit again.
    """

    def __init__(
        self, message: str, retry_after: float = 1.0, *, task_ids: Sequence[str] = ()
    ) -> None:
        super().__init__(message, retry_after)
        self.task_ids = tuple(task_ids)


class PartlySubmitted(FleetError):
    """Some of many tasks are submitted, and others not. `submitted` names those that are written,
    `unsure` those that may be, since their answer was lost: `Fleet.task` tells. The rest is not.

    Do not just call again: what has no idempotency key would be there twice. Where all have one the
    same call is safe; else cancel these tasks first, or submit only what is missing. The cause says
    what was wrong; notes say why one was refused, and which tasks too few replicas have.
    """

    def __init__(
        self, message: str, *, submitted: Sequence[str] = (), unsure: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.submitted = tuple(submitted)
        self.unsure = tuple(unsure)


class RateLimited(Unavailable):
    """A model provider takes no more for now: another key or model may, or this one later."""


class QuotaExhausted(RateLimited):
    """The account behind a provider's key has no credit, quota or allowance left: top it up, raise
    its limit, or set another key. Another provider's model may answer.

    `whole_key` says that it is so for all models of the key.
    """

    whole_key = True


class NoAgentAvailable(RetryLater):
    """No pool that serves the request has a live agent. Start one, or try again later."""

    def __init__(self, message: str, retry_after: float = 30.0) -> None:
        super().__init__(message, retry_after)


class ResultTimeout(RetryLater):
    """The task had not ended within the time the caller was willing to wait. It goes on."""


class NeverRetry(FleetError):
    """The same call will fail again: change the request or the configuration first."""


class InvalidRequest(NeverRetry):
    """The request cannot be understood: an unknown name, a bad payload, a value out of range."""


class InvalidConfig(NeverRetry):
    """The configuration is wrong; the message names the file, the key and what is allowed."""


class MalformedMessage(NeverRetry):
    """A message in a queue is none that Fleet or Celery can read. Workers set it aside: see
    `fleet dead list`. Send the task anew, as Celery or `Fleet.submit` writes it."""


class CheckpointTooLarge(NeverRetry):
    """An agent saves more than a task may, `limits.checkpoint_bytes`: save less, or do without."""


class ContextWindowExceeded(NeverRetry):
    """The prompt is too long for the model: ask one with a larger window, or send less."""


class ModelNotServed(NeverRetry):
    """A provider does not serve the model, or not to this key: correct the catalogue. Another model
    may answer."""


class ModelRefused(NeverRetry):
    """The model or its provider's filter would not answer this prompt: another model may.

    `reply` is the `ModelReply` that tells what the refusal took, where there was one.
    """

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply


class TaskNotFound(NeverRetry):
    """No task with this id is known: it never existed here, or its record has expired."""


class TaskFailed(NeverRetry):
    """The task ran and ended in a failure; the message says which."""


class TaskUnverified(TaskFailed):
    """The agent produced an answer that did not pass its checks; `result` holds it."""

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class TaskCancelled(FleetError):
    """Somebody cancelled the task before it ended."""


class TaskTimedOut(TaskFailed):
    """The task ran longer than its time limit and was stopped."""


class LeaseLost(FleetError):
    """This worker no longer holds the right to run the task: stop, and write nothing."""


class OverBudget(FleetError):
    """The request costs more than a budget has left: its own, or one that others spend from too.

    `retry_after` is in how many seconds the budget's window turns; None where no time will help.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverLimit(RetryLater):
    """A rate limit, or a bound on tasks at once, has no room: try again after `retry_after`."""


class TooBusy(RetryLater):
    """As many tasks wait as may, for the pools or of the tenant: submit after `retry_after`."""


class TaskOnHold(FleetError):
    """The task waits for room under a limit: this run ends, and the task runs again later.

    An agent lets the error pass. `refusal` is the `fleet.budgets.rules.refusals.Refusal`.
    """

    def __init__(self, message: str, refusal: object = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class InEmergency(RetryLater):
    """The fleet takes urgent tasks alone, until somebody ends the emergency."""

    def __init__(self, message: str, retry_after: float = 60.0) -> None:
        super().__init__(message, retry_after)


class NotAllowed(FleetError):
    """The request asks for something its sender may not have, such as a path outside the roots."""


def extra_missing(what: str, extra: str) -> InvalidConfig:
    """The error for `what` needs packages of an extra of Fleet that is not installed here."""
    return InvalidConfig(
        f"{what} needs packages that are not installed here; run: pip install 'fleet[{extra}]'"
    )
