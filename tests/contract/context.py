"""An agent's context for tests: a real model over HTTP, and a list of what was reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from fleet.agent import ModelReply
from fleet.errors import NotAllowed
from fleet.untrusted import Untrusted

MODEL = "smollm2-135m-instruct"


@dataclass
class LocalContext:
    """Asks the model at `model_url` (which ends in /v1); an agent that asks none needs no URL."""

    model_url: str = ""
    sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"] = "auto"
    read_roots: tuple[Path, ...] = ()
    task_id: str = "task-1"
    tenant: str = "acme"
    request_type: str = "test"
    complexity: float = 0.5
    reports: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    escalations: list[float] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

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
        self.prompts.append(prompt)
        provider = OpenAIProvider(base_url=self.model_url, api_key="local")
        agent = Agent(OpenAIChatModel(MODEL, provider=provider), instructions=instructions or None)
        run = await agent.run(
            prompt, model_settings={"max_tokens": max_tokens, "temperature": temperature}
        )
        usage = run.usage
        return ModelReply(
            text=run.output,
            model=MODEL,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_nanodollars=0,
        )

    async def escalate(self, reason: str, score: float = 0.0) -> bool:
        """There is no stronger model here: the score is noted."""
        self.escalations.append(score)
        return False

    async def use(self, tool: str, **arguments: Any) -> Any:
        raise NotAllowed(f"no test grants the tool {tool}")

    async def report(self, progress: str) -> None:
        self.reports.append(progress)

    async def save(self, name: str, value: Any) -> None:
        self.values[name] = value

    def saved(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    async def once(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        if name not in self.values:
            self.values[name] = await make()
        return self.values[name]
