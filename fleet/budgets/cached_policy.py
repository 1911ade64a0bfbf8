"""The controls of a worker, which follow the changes of the policy."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.budgets.controls import Controls
from fleet.errors import Unavailable
from fleet.policy.store import Policy, PolicyStore
from fleet.settings import FleetConfig

MAX_CHANGES = 5
"""The most times that the policy is read again for one purpose."""


class CachedPolicy:
    """Reads the policy when it is first needed, and again after a script reports a change.

    Threads may share it: it keeps one value, which is replaced as a whole.
    """

    def __init__(self, config: FleetConfig, policies: PolicyStore) -> None:
        self.config = config
        self.policies = policies
        self._found = ("0", Controls(config, Policy()))

    @property
    def controls(self) -> Controls:
        return self._found[1]

    def versions(self) -> Iterator[tuple[str, Controls]]:
        """Pairs of a version and its controls, as arguments for a script. Each further pair is read
        again, because the script knew a newer version."""
        for _ in range(MAX_CHANGES):
            yield self._found
            self.follow()

    def follow(self) -> None:
        """Read the policy, in one round trip."""
        policy = self.policies.read()
        self._found = (policy.version, Controls(self.config, policy))


def keeps_changing(what: str) -> Unavailable:
    """The error for a policy that changed each time it was read."""
    return Unavailable(
        f"the policy changed {MAX_CHANGES} times while {what}; `fleet audit` shows who changes it"
    )
