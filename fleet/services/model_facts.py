"""What the fleet has learned of its models: the seam between its state and who decides."""

from __future__ import annotations

from fleet.core.learning import ModelFacts
from fleet.services.connection import Connection


def fleet_facts(connection: Connection) -> ModelFacts:
    """Evidence and cool-downs as the fleet shares them."""
    return connection.model_state.read()
