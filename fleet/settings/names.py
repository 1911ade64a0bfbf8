"""The kinds of values and names that fleet.toml holds, and the base of its tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_\-]{0,62}$")]
# Kombu keeps a priority's messages under queue + separator + priority: a queue name
# with a control character in it would deliver into a list that nobody reads.
QueueName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:{}\-]{1,120}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
LONGEST_SECONDS = 10 * 365 * 86_400
"""Ten years: what is longer Redis cannot keep as a time to live."""
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
StrategyName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name; whether there is such a strategy is checked where the installed ones are known."""
TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]

PATH_PATTERN = r"[a-z0-9][a-z0-9_.\-]{0,62}(/[a-z0-9][a-z0-9_.\-]{0,62}){0,5}"
SecretPath = Annotated[str, StringConstraints(pattern=f"^{PATH_PATTERN}$")]
"""Where a secret is, such as providers/openai."""

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
"""What happens to a model call that does not fit a budget."""

Capability = Literal["tools", "structured_output", "vision"]

LOCAL = "local"
"""The provider of the models that Fleet serves itself."""

FORMS = ", ".join(f"{kind}:NAME" for kind in SCOPE_KINDS)
MAX_CHARACTERS = 200


def tenant_scope(tenant: str) -> str:
    """The scope of a tenant."""
    return f"tenant:{tenant}"


def scope_form(scope: str) -> str:
    """A scope other than `all`, as it is. Raises `ValueError` for what is none.

    A tenant's name may be any text in one line: other publishers have names of their own.
    """
    kind, _, name = scope.partition(":")
    if scope == ALL:
        raise ValueError(f"{scope!r} needs no table of its own; write it one table higher")
    if kind not in SCOPE_KINDS or not name:
        raise ValueError(f"{scope!r} is no scope; write {FORMS}, or {EACH} as NAME for each")
    if name != name.strip() or not name.isprintable() or len(name) > MAX_CHARACTERS:
        raise ValueError(
            f"{scope!r} is no scope: a name has up to {MAX_CHARACTERS} printable characters, and "
            "no white space around it"
        )
    return scope


def check_scope_name(scope: str, known: Mapping[str, Collection[str]]) -> None:
    """Raise `ValueError` for a scope whose name is not among the known ones of its kind.

    A kind without any known names may have all.
    """
    kind, _, name = scope.partition(":")
    names = known.get(kind, ())
    if names and name not in (*names, EACH):
        raise ValueError(f"{name!r} is not known; use one of: {', '.join(sorted(names))}, {EACH}")


ScopeName = Annotated[str, AfterValidator(scope_form)]


class Section(BaseModel):
    """A table of fleet.toml. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
