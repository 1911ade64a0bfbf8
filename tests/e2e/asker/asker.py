"""An agent of a user's own, for the tests of the money: it asks its model, and reports between."""

from __future__ import annotations

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result


class Ask(Payload):
    questions: int = 2
    max_tokens: int = 100
    saves: bool = True


class Answers(Result):
    answers: int


class Asker:
    async def run(self, payload: Ask, context: AgentContext) -> Outcome:
        for number in range(payload.questions):
            asked = f"question {number}"
            name = f"answer-{number}" if payload.saves else ""
            await context.ask(asked, max_tokens=payload.max_tokens, save_as=name)
            await context.report(f"{number + 1} answered")
        return Outcome("succeeded", Answers(answers=payload.questions), "asked")


SPEC = AgentSpec("asker", Ask, Answers, "asker:Asker")
