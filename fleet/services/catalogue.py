"""The models to choose from, and where each is served."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.adapters.prices import price_per_thousand
from fleet.core.model_choice import REFERENCE_CATALOGUE, Model
from fleet.errors import InvalidConfig
from fleet.settings import Settings
from fleet.settings.config import LOCAL, CatalogueModel


def configured_providers(settings: Settings, environment: Mapping[str, str]) -> set[str]:
    """The providers whose key is in the environment."""
    return {
        name
        for name, provider in settings.config.providers.items()
        if environment.get(provider.key_variable)
    }


def catalogue(settings: Settings, environment: Mapping[str, str]) -> tuple[Model, ...]:
    """The models of configured providers; the local ones where no provider is configured.

    Raises `InvalidConfig` where none is left, or a model has no price and is not marked free.
    """
    if settings.config.models.catalogue == "reference":
        return REFERENCE_CATALOGUE
    providers = configured_providers(settings, environment) or {LOCAL}
    models = tuple(
        _priced(name, model, settings.source)
        for name, model in settings.config.catalogue.items()
        if model.provider in providers
    )
    if not models:
        raise InvalidConfig(
            f"{settings.source}: catalogue: has no model of {', '.join(sorted(providers))}; "
            "add one, or set the key of a provider that has models"
        )
    return models


def _priced(name: str, model: CatalogueModel, source: str) -> Model:
    price = (0.0, 0.0) if model.free else _price(name, model)
    if price is None:
        raise InvalidConfig(
            f'{source}: catalogue."{name}": no price is known for it; set input_price and '
            "output_price (US dollars for a thousand tokens), or free = true"
        )
    return Model(
        name, model.provider, *price, model.quality, model.speed, model.efficiency, model.free
    )


def _price(name: str, model: CatalogueModel) -> tuple[float, float] | None:
    if model.input_price is not None and model.output_price is not None:
        return model.input_price, model.output_price
    return price_per_thousand(model.provider, name)
