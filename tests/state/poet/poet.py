"""An agent of a package that Fleet knows nothing of, with a view, exports and an estimate."""

from __future__ import annotations

import sys

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result, TokenEstimate


class Theme(Payload):
    about: str


class Poem(Result):
    lines: tuple[str, ...]


class Poet:
    async def run(self, payload: Theme, context: AgentContext) -> Outcome:
        return Outcome("succeeded", Poem(lines=(payload.about,)), "one line")


SPEC = AgentSpec(
    "poet",
    Theme,
    Poem,
    "poet:Poet",
    model_task="poetry",
    estimate=TokenEstimate(4000, 9000),
    runs_code=True,
    render="poet_view:poem_view",
    exports={"verse": "poet_view:verse", "pdf": "poet_view:pdf"},
)
assert "poet_view" not in sys.modules, "an announcement brings no code with it"
