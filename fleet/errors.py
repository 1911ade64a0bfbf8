"""The errors that Fleet raises on purpose. Each class calls for one action of the caller.

Each message says what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class FleetError(Exception):
    """The base class of all errors that Fleet raises on purpose."""

    reason = ""
    """For a lasting fault of a provider: why its key or model is not used, in a few words."""


class RetryLater(FleetError):
    """The request is valid. The same call may succeed after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(RetryLater):
    """A service that Fleet needs (Redis, a model provider) did not answer.

    Nothing was written, except perhaps after a timeout. With an idempotency key it is safe to
    submit again. `may_be_served` says that a provider may have processed the call, and may bill it.
    `reply` is the `ModelReply` with the usage of the failed call, if the provider reported it.
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
    """The tasks are written, but fewer replicas than `redis.min_replicas` have them.

    If the master is lost now, these tasks may be lost too. `task_ids` names them. After a failover,
    `Fleet.task` shows which still exist. With an idempotency key it is safe to submit again.
    """

    def __init__(
        self, message: str, retry_after: float = 1.0, *, task_ids: Sequence[str] = ()
    ) -> None:
        super().__init__(message, retry_after)
        self.task_ids = tuple(task_ids)


class PartlySubmitted(FleetError):
    """Only some of many tasks are submitted.

    `submitted` names the written tasks. `unsure` names tasks that may be written, because Redis's
    answer was lost; `Fleet.task` shows whether they exist. The others are not written.

    A repeated call would submit tasks without an idempotency key twice. If all tasks have a key,
    repeat the call. Otherwise cancel these tasks first, or submit only the missing ones. The cause
    is the original error. Notes say why a task was refused, and which tasks too few replicas have.
    """

    def __init__(
        self, message: str, *, submitted: Sequence[str] = (), unsure: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.submitted = tuple(submitted)
        self.unsure = tuple(unsure)


class RateLimited(Unavailable):
    """A provider's rate limit is reached. Use another key or model, or try again later.

    `asked_seconds` is the wait that the provider asked for, 0 if it asked for none. `is_paced`: the
    provider serves other calls of the fleet, and the same call may be served in a moment.
    """

    asked_seconds = 0.0
    is_paced = False


class QuotaExhausted(RateLimited):
    """The account of a provider's key has no credit or quota left.

    Add credit, raise the limit, or set another key. Another provider's model may answer.
    `whole_key` says that the error concerns all models of the key.
    """

    whole_key = True


class SecretsUnavailable(Unavailable):
    """A store of secrets is away, sealed or too slow. Nothing was written."""


class SecretConflict(RetryLater):
    """Somebody else wrote the secret in the meantime. Read it again, then write."""


class RotationFailed(RetryLater):
    """A step of a secret's rotation failed. The current version stays current, and the rotation is
    resumed after `retry_after` seconds by beat, or at once by hand."""


class NoAgentAvailable(RetryLater):
    """No pool that serves the request has a live agent. Start one, or try again later."""

    def __init__(self, message: str, retry_after: float = 30.0) -> None:
        super().__init__(message, retry_after)


class ResultTimeout(RetryLater):
    """The task has not ended within the caller's timeout. It continues."""


class NeverRetry(FleetError):
    """The same call will fail again. Change the request or the configuration first."""


class InvalidRequest(NeverRetry):
    """The request is invalid: an unknown name, a bad payload, or a value out of range."""


class InvalidConfig(NeverRetry):
    """The configuration is invalid. The message names the file, the key and the allowed values."""


class MalformedMessage(NeverRetry):
    """Neither Fleet nor Celery can read a message in a queue. Workers set it aside: see
    `fleet dead list`. Send the task again with Celery or `Fleet.submit`."""


class CheckpointTooLarge(NeverRetry):
    """A task's checkpoints exceed `limits.checkpoint_bytes`. Save less."""


class ContextWindowExceeded(NeverRetry):
    """The prompt is too long for the model. Use one with a larger window, or a shorter prompt."""


class ModelNotServed(NeverRetry):
    """A provider does not serve the model, or not to this key. Correct the catalogue. Another model
    may answer."""


class ModelRefused(NeverRetry):
    """The model or its provider's filter refused this prompt. Another model may answer.

    `reply` is the `ModelReply` with the usage of the refusal, if there was one.
    """

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply


class SecretNotFound(NeverRetry):
    """No store has this secret, or its version is destroyed. Set it, or correct the path."""


class TaskNotFound(NeverRetry):
    """No task has this id. It never existed, or its record has expired."""


class TaskFailed(NeverRetry):
    """The task failed. The message gives the reason."""


class TaskUnverified(TaskFailed):
    """The agent's answer did not pass its checks. `result` holds the answer."""

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class TaskCancelled(FleetError):
    """The task was cancelled before it ended."""


class TaskTimedOut(TaskFailed):
    """The task ran longer than its time limit and was stopped."""


class LeaseLost(FleetError):
    """This worker no longer holds the lease of the task. Stop, and write nothing."""


class OverBudget(FleetError):
    """The request exceeds a budget: its own, or a shared one.

    `retry_after` is the seconds until the budget's next window. None: waiting does not help.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverLimit(RetryLater):
    """A rate limit or a limit on concurrent tasks is reached. Try again after `retry_after`."""


class TooBusy(RetryLater):
    """The maximum number of tasks is waiting, for the pools or of the tenant. Submit again after
    `retry_after`."""


class TaskOnHold(FleetError):
    """The task is put on hold until a limit has room. Its run ends here and starts anew later.

    An agent must not catch it. `refusal` is the `fleet.budgets.rules.refusals.Refusal`.
    """

    def __init__(self, message: str, refusal: object = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class InEmergency(RetryLater):
    """The fleet accepts only urgent tasks until the emergency ends."""

    def __init__(self, message: str, retry_after: float = 60.0) -> None:
        super().__init__(message, retry_after)


class NotAllowed(FleetError):
    """The request needs a permission that is missing, such as a path outside the roots."""


def extra_missing(what: str, extra: str) -> InvalidConfig:
    """The error if `what` needs packages of an extra that is not installed."""
    return InvalidConfig(
        f"{what} needs packages that are not installed here; run: pip install 'fleet[{extra}]'"
    )
