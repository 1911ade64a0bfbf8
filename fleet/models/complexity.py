"""The complexity of a task whose caller gave none, estimated from its text.

The policy has the model that `fleet models train` made. Without a model every task has the
complexity 0.5. A model of an earlier version of Fleet is ignored; `fleet models train` makes a new
one from the recorded examples.
"""

from __future__ import annotations

from fleet.models.rules.difficulty.model import DifficultyModel, is_of_an_earlier_version
from fleet.models.rules.difficulty.payload_text import text_of
from fleet.policy.store import Policy, PolicyStore
from fleet.telemetry.logger import get_logger

DEFAULT_COMPLEXITY = 0.5
DECIMALS = 2
"""Tasks of nearly the same complexity share a plan. The estimate is not more exact than this."""

log = get_logger(__name__)


class Complexity:
    """Estimates with the newest model. Reads the policy once, when it is first asked."""

    def __init__(self, policies: PolicyStore) -> None:
        self.policies = policies
        self._model: DifficultyModel | None = None
        self._stored: bytes | None = None

    def estimate(self, payload: str) -> float:
        """0 (easy) to 1 (hard), from the payload's JSON."""
        if self._stored is None:
            self.follow(self.policies.read())
        if self._model is None:
            return DEFAULT_COMPLEXITY
        return round(self._model.estimate(text_of(payload)), DECIMALS)

    def follow(self, policy: Policy) -> None:
        """Use the model of a policy that was just read. Raises `InvalidConfig` if a newer version
        of Fleet made it."""
        stored = policy.difficulty
        if stored != self._stored:
            self._model = _read(stored)
            # Last: a model that cannot be read is not read yet, and fails again.
            self._stored = stored


def _read(stored: bytes) -> DifficultyModel | None:
    if is_of_an_earlier_version(stored):
        log.warning(
            "the difficulty model was trained by an earlier version of fleet and is left out; "
            "train it anew: fleet models train",
            complexity=DEFAULT_COMPLEXITY,
        )
        return None
    return DifficultyModel.from_bytes(stored) if stored else None
