"""The controls that a worker goes by, followed as the policy changes."""

from __future__ import annotations

from fleet.budgets.controls import Controls
from fleet.policy.store import Policy, PolicyStore
from fleet.settings import FleetConfig


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

    @property
    def now(self) -> tuple[str, Controls]:
        """Version and controls that belong together."""
        return self._found

    def follow(self) -> None:
        """Read the policy, in one round trip."""
        policy = self.policies.read()
        self._found = (policy.version, Controls(self.config, policy))
