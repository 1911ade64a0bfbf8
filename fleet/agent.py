"""What an agent is: the protocol that the three agents of `workers/` and your own implement.

An agent is announced by an `AgentSpec` under the entry point group `fleet.agents`. The
spec is light, since applications load it to check payloads before they send them; the
implementation that it names is imported by workers alone.

    # setup.cfg of your package
    [options.entry_points]
    fleet.agents =
        summarizer = acme.summarizer:SPEC
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.errors import InvalidConfig, InvalidRequest

if TYPE_CHECKING:
    from rich.console import RenderableType

ENTRY_POINT_GROUP = "fleet.agents"


class Payload(BaseModel):
    """What an agent is given. Unknown keys are refused, so that a typo is not lost."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(BaseModel):
    """What an agent gives back, stored as JSON with the task.

    Numbers that are not finite are stored as `"NaN"` and `"Infinity"`, and half a surrogate pair,
    which is no character, as U+FFFD.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "error", "unknown"]
"""Why an answer ended: it was complete, cut at its limit of tokens or of the window, cut by a
filter, a call of a tool, cut by an error of the provider; or the provider did not say."""


class ModelReply(BaseModel):
    """One answer of a language model, and what it took.

    `cached_input_tokens`, read from the provider's cache, and `cache_write_tokens`, written to it,
    are among the `input_tokens`, `reasoning_tokens` among the `output_tokens`, where the provider
    tells them. `seconds` is the time of the call. `finish_reason` says why the answer ended: one
    that is not `stop` may lack its end.
    `usage_missing` marks an answer whose provider told no tokens, `usage_contradictory` one whose
    counts fit no reading, of which the largest is here; `unpriced` one of a model that
    is not free and has no price: what is not known is 0 here.
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
    """How a run ended: `succeeded`, or `unverified` where the answer failed its checks.

    `quality` says how good the last model's answer was, 0 to 1, where the agent knows: the fleet
    learns from it which model suits the request type. Where it is None a success counts as 1,
    an unverified answer as 0. `model` is the `ModelReply.model` whose answer the result holds,
    empty where that is the last one's: a user's rating goes to it.
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
    """What a running agent may use. Everything else it must bring along."""

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
    ) -> ModelReply:
        """Ask the task's model. Tokens and cost are added to the task, also when it is cancelled.

        Where the model does not answer, refuses, or cannot take so long a prompt, the next best
        one that suits and fits what is left of the task's limit is asked, and further questions
        go to that one: `ModelReply.model` says which. Where none is left the first model's error
        is raised: `Unavailable`, `RateLimited`, `QuotaExhausted`, `ModelRefused`,
        `ContextWindowExceeded`, `ModelNotServed`, `NotAllowed` for a provider's key that is
        refused, or `NeverRetry` for a request that no model takes. What a call may cost at worst
        has to fit the task's limit and every budget: where that is so of no model, or the policy is
        to refuse, `OverBudget` or `OverLimit` is raised. Where it is to wait, `TaskOnHold` is: let
        the error pass, for it ends the run even if it is caught; the task runs again later.

        With `save_as` the answer is saved under that name in the step that charges for it, and
        where it is saved already it is given without asking: a task pays for it once, whatever its
        runs come to. One that is larger than the task may save is given, and not saved.

        A run that raises `RetryLater` or one of its kind, a model's or its own, is tried again
        after a while, as `[retries]` says.
        """
        ...

    async def escalate(self, reason: str, score: float = 0.0) -> bool:
        """Say that the model's answer failed its check, and have further questions go to the next
        stronger one.

        `score`, 0 to 1, is how good the failed answer was; the fleet learns it of the model that
        gave it. `reason` is shown with the task's next step. False where there is no stronger
        model that may be used and fits what is left of the task's limit: then nothing changes.
        Else those whose answers failed are not asked again in this run.
        Raises `ValueError` for a score out of range.
        """
        ...

    async def report(self, progress: str) -> None:
        """Show one line of progress. Raises `LeaseLost` if the task went elsewhere."""
        ...

    async def save(self, name: str, value: Any) -> None:
        """Save what a step came to. A later run of the task, whatever this one ends in but an end
        of the task, finds it by `saved`. So does the retry of a dead letter.

        The value is JSON, in which half a surrogate pair becomes U+FFFD. The name has up to 64
        letters, digits and . _ : -, and the newest value of a name counts. Raises `ValueError` or
        `TypeError` where they are not, `CheckpointTooLarge` for more than
        `limits.checkpoint_bytes` of the task or 100 names, `LeaseLost` if the task went elsewhere,
        and `Unavailable` where Redis does not answer.
        """
        ...

    def saved(self, name: str, default: Any = None) -> Any:
        """What was saved under a name, by this run or one before it; else the default."""
        ...

    async def once(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """What is saved under a name; else it is made, saved, and given as `saved` will give it."""
        ...


class Agent(Protocol):
    """One kind of worker. `run` may be cancelled at any await and then leaves nothing behind."""

    async def run(self, payload: Any, context: AgentContext) -> Outcome:
        """Do the work. Raise a `FleetError` for a failure that the caller should understand."""
        ...


class TokenEstimate(NamedTuple):
    """Tokens that a task takes at complexity 1/3, of a model with efficiency 1.

    Complexity 0 takes half as many, complexity 1 twice as many. The estimate is used to choose the
    model and to reserve money.
    """

    input: int
    output: int


GENERAL_ESTIMATE = TokenEstimate(300, 800)
"""That of an agent that announces none."""


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

    `estimate` is what a task takes. A request type of the configuration may have the estimate of
    another agent: it gives that agent's `model_task`. `runs_code` says that the agent runs code in
    the sandbox, whose state `fleet status` then shows.
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

    def make(self) -> Agent:
        """Import and make the agent. Called once in each worker process."""
        maker: Callable[[], Agent] = _named(self.implementation)
        return maker()

    def rendered(
        self, stored: Mapping[str, Any], max_rows: int | None = None
    ) -> RenderableType | None:
        """A stored result for people. None where the agent has no `render`, or where the result
        is of another version of the agent."""
        if not self.render:
            return None
        try:
            result = self.result.model_validate(stored)
        except ValidationError:
            return None
        render: Callable[[Result, int | None], RenderableType] = _named(self.render)
        return render(result, max_rows)

    def export(self, stored: Mapping[str, Any], form: str) -> str | bytes:
        """A stored result in a format. Raises `InvalidRequest` for a format that it has not."""
        if form not in self.exports:
            formats = ", ".join(sorted(self.exports)) or "none"
            raise InvalidRequest(
                f"results of {self.agent_type} have no format {form!r}; their formats: {formats}"
            )
        write: Callable[[Result], str | bytes] = _named(self.exports[form])
        return write(self.result.model_validate(stored))


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def installed_agents() -> dict[str, AgentSpec]:
    """Every announced agent by its type. Raises `InvalidConfig` where two claim one type."""
    specs: dict[str, AgentSpec] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        spec = entry.load()
        if not isinstance(spec, AgentSpec):
            raise InvalidConfig(
                f"entry point {entry.name} of {ENTRY_POINT_GROUP} names {entry.value}, which is no "
                "AgentSpec; let it name one"
            )
        if spec.agent_type in specs:
            raise InvalidConfig(
                f"two installed packages bring an agent of type {spec.agent_type}; remove one"
            )
        specs[spec.agent_type] = spec
    return specs


T = TypeVar("T")


async def to_the_end(work: Awaitable[T]) -> T:
    """What `work` gives, which goes on until it ends though the run is cancelled meanwhile.

    It is for cleaning up: a run that is told to stop is cancelled again every second until it has
    ended. A cancellation that came meanwhile is raised when the work has ended.
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
