"""What the fleet has learned of its models: the seam between its state and who decides."""

from __future__ import annotations

from fleet.connection import Connection
from fleet.models.rules.learning import ModelFacts


def fleet_facts(connection: Connection) -> tuple[float, ModelFacts]:
    """The time in seconds since 1970 by Redis's clock; evidence and cool-downs, as shared then."""
    return connection.model_state.look()
