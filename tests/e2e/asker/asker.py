"""An agent of a user's own, for the tests of the money: it asks its model, and reports between."""

from __future__ import annotations

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result


class Ask(Payload):
    questions: int = 2
    max_tokens: int = 100


class Answers(Result):
    answers: int


class Asker:
    async def run(self, payload: Ask, context: AgentContext) -> Outcome:
        for number in range(payload.questions):
            await context.ask(f"question {number}", max_tokens=payload.max_tokens)
            await context.report(f"{number + 1} answered")
        return Outcome("succeeded", Answers(answers=payload.questions), "asked")


SPEC = AgentSpec("asker", Ask, Answers, "asker:Asker")
