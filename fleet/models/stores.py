"""The models' part of Redis, and the catalogue that it keeps up to date."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.models.examples_store import Examples
from fleet.models.priced import PricedModels
from fleet.models.prices_store import SharedPrices
from fleet.models.store import ModelState


@dataclass(frozen=True, slots=True)
class ModelStores:
    """What was learned of the models, the examples it is learned from, the prices, the
    catalogue."""

    state: ModelState
    examples: Examples
    prices: SharedPrices
    catalogue: PricedModels
