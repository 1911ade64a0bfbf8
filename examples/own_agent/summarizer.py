"""An agent of your own: the task's model summarizes a text, and the agent checks the answer.

The payload and the result are pydantic models. `SPEC` is what the entry point names.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result

INSTRUCTIONS = "You summarize texts. Answer with the summary alone, in one or two sentences."


class SummaryPayload(Payload):
    """A text, and how many words its summary may have."""

    text: Annotated[str, Field(min_length=1, max_length=20_000)]
    max_words: Annotated[int, Field(ge=5, le=200)] = 40


class SummaryResult(Result):
    """The summary, and the model that wrote it."""

    summary: str
    words: int
    model: str


class Summarizer:
    """Made once in each worker process; `run` is called for each task, many at a time."""

    async def run(self, payload: SummaryPayload, context: AgentContext) -> Outcome:
        await context.report("asking the model")
        # A word takes at least one token, so the limit on tokens also limits the words. `save_as`
        # checkpoints the answer: after a crash the next attempt has it and does not pay again.
        reply = await context.ask(
            payload.text,
            instructions=INSTRUCTIONS,
            max_tokens=payload.max_words,
            save_as="summary",
        )
        summary = reply.text.strip()
        words = len(summary.split())
        result = SummaryResult(summary=summary, words=words, model=reply.model)
        if not 0 < words < len(payload.text.split()):
            return Outcome("unverified", result, f"{words} words are no summary of this text")
        return Outcome("succeeded", result, f"{words} words")


SPEC = AgentSpec("summarizer", SummaryPayload, SummaryResult, "summarizer:Summarizer")
