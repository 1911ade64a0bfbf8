"""What an agent is: the protocol that the three agents of `workers/` and your own implement.

A package announces an agent by an `AgentSpec` in the entry point group `fleet.agents`. The spec is
light, because applications load it to check payloads before they send them. Only workers import
the implementation that the spec names.

    # setup.cfg of your package
    [options.entry_points]
    fleet.agents =
        summarizer = acme.summarizer:SPEC
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.extensions import installed
from fleet.untrusted import Tool, Untrusted

if TYPE_CHECKING:
    from rich.console import RenderableType

ENTRY_POINT_GROUP = "fleet.agents"


class Payload(BaseModel):
    """The input of an agent. Unknown keys are refused, so that a typo is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(BaseModel):
    """The output of an agent, stored as JSON with the task.

    Numbers that are not finite are stored as `"NaN"` and `"Infinity"`. Half a surrogate pair is not
    a character and is stored as U+FFFD.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "error", "unknown"]
"""Why an answer ended: it was complete (`stop`), reached its limit of tokens or the context window,
was cut by a filter, calls a tool, was cut by an error of the provider, or the provider gave no
reason (`unknown`)."""


class ModelReply(BaseModel):
    """One answer of a language model, with its tokens and its cost.

    `input_tokens` include `cached_input_tokens`, which were read from the provider's cache, and
    `cache_write_tokens`, which were written to it. `output_tokens` include `reasoning_tokens`. A
    count that the provider does not report is 0. `seconds` is the time of the call. If
    `finish_reason` is not `stop`, the end of the answer may be missing.

    `usage_missing`: the provider reported no tokens. `usage_contradictory`: its counts contradict
    each other, and the largest reading is given. `unpriced`: the model is not free and has no
    price, so the cost is 0.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_nanodollars: int
    cached_input_tokens: int = 0
    seconds: float = 0.0
    usage_missing: bool = False
    reasoning_tokens: int = 0
    unpriced: bool = False
    cache_write_tokens: int = 0
    usage_contradictory: bool = False
    finish_reason: FinishReason = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `succeeded`, or `unverified` if the answer failed its checks.

    `quality`, 0 to 1, is how good the last model's answer was. The fleet learns from it which model
    suits the request type. None counts as 1 for a success and as 0 for an unverified answer.
    `model` is the `ModelReply.model` whose answer is in the result; "" means the last one. A user's
    rating is counted for that model.
    """

    state: Literal["succeeded", "unverified"]
    result: Result
    summary: str
    quality: float | None = None
    model: str = ""

    def __post_init__(self) -> None:
        if self.quality is not None and not 0.0 <= self.quality <= 1.0:
            raise ValueError(f"the outcome's quality is {self.quality!r}; give 0 to 1, or None")


class AgentContext(Protocol):
    """What a running agent may use. The agent must provide everything else itself."""

    task_id: str
    tenant: str
    request_type: str
    complexity: float
    read_roots: tuple[Path, ...]
    sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"]

    async def ask(
        self,
        prompt: str,
        *,
        instructions: str = "",
        max_tokens: int = 1024,
        temperature: float = 0.0,
        save_as: str = "",
        untrusted: Sequence[Untrusted] = (),
    ) -> ModelReply:
        """Ask the task's model. Tokens and cost are added to the task, even if it is cancelled.

        If the model does not answer, refuses, or cannot take a prompt of this length, the next best
        model that suits is asked, within what is left of the task's limit. Further questions go to
        that model; `ModelReply.model` names it. If no model is left, the first model's error is
        raised: `Unavailable`, `RateLimited`, `QuotaExhausted`, `ModelRefused`,
        `ContextWindowExceeded`, `ModelNotServed`, `NotAllowed` for a provider's key that is
        refused, or `NeverRetry` for a request that no model takes.

        The upper bound of a call's cost must fit the task's limit and every budget. If no model
        fits, or the policy is to refuse, `OverBudget` or `OverLimit` is raised. If the policy is to
        wait, `TaskOnHold` is raised. Do not catch it: the run ends in any case, and the task runs
        again later.

        `untrusted` are texts that strangers may have written. They follow the prompt between marks,
        and the instructions say that they are data. From then on the task may use no outward tool
        that its caller has not approved; see `use`.

        With `save_as`, the answer is saved under that name in the same step as its charge. If an
        answer is saved already, it is returned without a call, so the task pays for it once however
        often it runs. An answer larger than the task may save is returned but not saved.

        If a run raises `RetryLater` or a subclass, from a model or its own, the task is tried again
        later, by `[retries]`.
        """
        ...

    async def escalate(self, reason: str, score: float = 0.0) -> bool:
        """Report that the model's answer failed its check. Further questions go to the next
        stronger model, and the models whose answers failed are not asked again in this run.

        `score`, 0 to 1, is how good the failed answer was; the fleet learns from it about the
        model. `reason` is shown with the task's next model call. Returns False, and changes
        nothing, if there is no stronger usable model within what is left of the task's limit.
        Raises `ValueError` for a score out of range.
        """
        ...

    async def use(self, tool: str, **arguments: Any) -> Any:
        """Use a tool that `AgentSpec.tools` announces, and return what it returns. The text of a
        tool that reads text of strangers is an `Untrusted`.

        Raises `NotAllowed` for a tool that the task does not grant, and for an outward tool after
        this or an earlier run of the task has read text of strangers, unless the caller of the task
        has approved the tool.
        """
        ...

    async def report(self, progress: str) -> None:
        """Show one line of progress. Raises `LeaseLost` if another run has the task."""
        ...

    async def save(self, name: str, value: Any) -> None:
        """Checkpoint a result. After a crash or a retry, the next run of the task reads it with
        `saved`. So does the retry of a dead letter. The end of the task removes it.

        The value is JSON; half a surrogate pair becomes U+FFFD. The name has up to 64 letters,
        digits and . _ : -. Saving a name again replaces its value. Raises `ValueError` or
        `TypeError` for other names and values, `CheckpointTooLarge` for more than
        `limits.checkpoint_bytes` or 100 names in a task, `LeaseLost` if another run has the task,
        and `Unavailable` if Redis does not answer.
        """
        ...

    def saved(self, name: str, default: Any = None) -> Any:
        """The value that this or an earlier run saved under a name; else the default."""
        ...

    async def once(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """The value saved under a name. If there is none, make and save it first."""
        ...


class Agent(Protocol):
    """One kind of worker. `run` may be cancelled at any await, and must then leave nothing
    behind."""

    async def run(self, payload: Any, context: AgentContext) -> Outcome:
        """Do the work. Raises a `FleetError` for a failure that the caller should understand."""
        ...


class TokenEstimate(NamedTuple):
    """Tokens that a task of complexity 1/3 takes with a model of efficiency 1.

    Complexity 0 takes half as many, complexity 1 twice as many. The estimate is used to choose the
    model and to reserve money.
    """

    input: int
    output: int


GENERAL_ESTIMATE = TokenEstimate(300, 800)
"""The estimate of an agent that announces none."""


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """The announcement of an agent: its type, its payload and result, and where its code is.

    Code is named as `module:name` and imported when it is used:

    - `implementation` is a callable without arguments that makes the agent.
    - `render` is a function of the result and of `max_rows`, the most lines of a long list to
      show, or None for all. It returns what Rich can print. Without one the result is shown as
      JSON.
    - `exports` has the formats for `fleet task ID --format NAME`. Each names a function of the
      result that returns text or bytes, and raises `InvalidRequest` where the result has none.

    `estimate` is the token estimate of a task. A request type of the configuration uses another
    agent's estimate if it names that agent's `model_task`. If `runs_code`, the agent runs code in
    the sandbox, and `fleet status` shows the sandbox's state. `canary` is the payload of a small,
    cheap task that every working agent does; `fleet deploy smoke` submits it.

    `tools` are the tools of `AgentContext.use` by their names. A task may use those that are not
    outward, or else those that its caller names: see `Submission.tools`.
    """

    agent_type: str
    payload: type[Payload]
    result: type[Result]
    implementation: str
    model_task: str = ""
    estimate: TokenEstimate = GENERAL_ESTIMATE
    runs_code: bool = False
    render: str = ""
    exports: Mapping[str, str] = field(default_factory=dict)
    canary: Mapping[str, Any] | None = None
    tools: Mapping[str, Tool] = field(default_factory=dict)

    def make(self) -> Agent:
        """Import and make the agent. Called once in each worker process."""
        maker: Callable[[], Agent] = named(self.implementation)
        return maker()

    def rendered(
        self, stored: Mapping[str, Any], max_rows: int | None = None
    ) -> RenderableType | None:
        """A stored result for people. None if the agent has no `render`, or if another version of
        the agent stored the result."""
        if not self.render:
            return None
        try:
            result = self.result.model_validate(stored)
        except ValidationError:
            return None
        render: Callable[[Result, int | None], RenderableType] = named(self.render)
        return render(result, max_rows)

    def export(self, stored: Mapping[str, Any], form: str) -> str | bytes:
        """A stored result in a format. Raises `InvalidRequest` if the agent has no such format."""
        if form not in self.exports:
            formats = ", ".join(sorted(self.exports)) or "none"
            raise InvalidRequest(
                f"results of {self.agent_type} have no format {form!r}; their formats: {formats}"
            )
        write: Callable[[Result], str | bytes] = named(self.exports[form])
        return write(self.result.model_validate(stored))


def named(place: str) -> Any:
    """What `module:name` names, imported now."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def installed_agents() -> dict[str, AgentSpec]:
    """Every announced agent by its type. Raises `InvalidConfig` if two claim one type."""
    specs: dict[str, AgentSpec] = {}
    for spec in installed(ENTRY_POINT_GROUP, "agent", {}, AgentSpec).values():
        if spec.agent_type in specs:
            raise InvalidConfig(
                f"two installed packages bring an agent of type {spec.agent_type}; remove one"
            )
        specs[spec.agent_type] = spec
    return specs


T = TypeVar("T")


async def to_the_end(work: Awaitable[T]) -> T:
    """The result of `work`, which runs to its end even if this run is cancelled meanwhile.

    Use it to clean up: a run that must stop is cancelled again every second until it has ended. A
    cancellation that arrives during the work is raised after it.
    """
    job, cancelled = asyncio.ensure_future(work), None
    while not job.done():
        try:
            await asyncio.wait({job})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return job.result()
    if not job.cancelled():
        job.exception()
    raise cancelled
