"""The kinds of values that fleet.toml holds, and the words that mean something in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_\-]{0,62}$")]
# Kombu keeps a priority's messages under queue + separator + priority: a queue name
# with a control character in it would deliver into a list that nobody reads.
QueueName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:{}\-]{1,120}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
LONGEST_SECONDS = 10 * 365 * 86_400
"""Ten years: what is longer Redis cannot keep as a time to live."""
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
Strategy = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name; whether there is such a strategy is checked where the installed ones are known."""
TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]

SILENT_COMPATIBILITY = 0.5
"""How well an agent type suits a request type where the table is silent."""

EVERY_TYPE = "*"

ALL = "all"
"""The scope of everything."""
SCOPE_KINDS = ("tenant", "agent_type", "model")
"""What a scope may be of, beside everything: `tenant:acme`."""
EACH = "*"
"""The name in a scope that stands for each of its kind."""

Over = Literal["downgrade", "wait", "refuse"]
"""What becomes of a model call that does not fit a budget."""

Capability = Literal["tools", "structured_output", "vision"]

LOCAL = "local"
"""The provider of the models that Fleet serves itself."""
