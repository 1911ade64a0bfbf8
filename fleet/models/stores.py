"""The models' part of Redis, and the catalogue that it keeps up to date."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.models.examples_store import Examples
from fleet.models.keys import ProviderKeys
from fleet.models.priced import PricedModels
from fleet.models.prices_store import SharedPrices
from fleet.models.store import ModelState


@dataclass(frozen=True, slots=True)
class ModelStores:
    """The learned facts about models, the examples, the shared prices, the providers' keys, and the
    catalogue."""

    state: ModelState
    examples: Examples
    prices: SharedPrices
    keys: ProviderKeys
    catalogue: PricedModels


def end_cool_downs_of_replaced(models: ModelStores) -> None:
    """End the cool-downs of keys whose secret was replaced since. Reads the facts about models, and
    the secrets of keys that cool down."""
    for key_id, version in models.keys.replaced(models.state.read()):
        models.state.replaced(key_id, version)
