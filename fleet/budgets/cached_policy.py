"""The controls that a worker goes by, followed as the policy changes."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.budgets.controls import Controls
from fleet.errors import Unavailable
from fleet.policy.store import Policy, PolicyStore
from fleet.settings import FleetConfig

MAX_CHANGES = 5
"""The policy is read anew so often at most for one thing."""


class CachedPolicy:
    """Read when first needed, and again where a script says that it has changed.

    Threads may share it: it holds one value, replaced as a whole.
    """

    def __init__(self, config: FleetConfig, policies: PolicyStore) -> None:
        self.config = config
        self.policies = policies
        self._found = ("0", Controls(config, Policy()))

    @property
    def controls(self) -> Controls:
        return self._found[1]

    def versions(self) -> Iterator[tuple[str, Controls]]:
        """Version and controls that belong together, to ask a script by; read anew where it is
        asked again, since it knows a newer version."""
        for _ in range(MAX_CHANGES):
            yield self._found
            self.follow()

    def follow(self) -> None:
        """Read the policy, in one round trip."""
        policy = self.policies.read()
        self._found = (policy.version, Controls(self.config, policy))


def keeps_changing(what: str) -> Unavailable:
    """The error where no version was the newest, however often it was read."""
    return Unavailable(
        f"the policy has changed {MAX_CHANGES} times while {what}; find out who keeps changing it: "
        "`fleet audit`"
    )
