"""The catalogue: the models to choose from, and why a model is not available."""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.errors import InvalidConfig
from fleet.models.keys import ProviderKeys
from fleet.models.prices import Listed, PriceBook, current_prices
from fleet.models.rules.choice import REFERENCE_CATALOGUE, Model, Price
from fleet.settings import Settings
from fleet.settings.models import CatalogueModel
from fleet.settings.names import LOCAL


def catalogue(
    settings: Settings,
    keys: ProviderKeys,
    *,
    price_all: bool = False,
    now: datetime | None = None,
    book: PriceBook | None = None,
) -> tuple[Model, ...]:
    """All models of the catalogue. The `absent` field says why a model is not available.

    A hosted model is available if its provider has a key here, see `fleet.models.keys`. A local
    model is available if no provider has a key, or if FLEET_MODEL_URL names a server. Prices come
    from the `book`, or from the newest data here, as of `now`, or of this moment.
    `fleet.models.priced` follows their changes. Unavailable models are priced only with
    `price_all`, for display.

    Raises `InvalidConfig` if no model is available, or if an available one has no price and is not
    marked free.
    """
    if settings.config.models.catalogue == "reference":
        return REFERENCE_CATALOGUE
    builder = _ModelBuilder(settings, keys, price_all, now or datetime.now(UTC), book)
    models = tuple(builder.model(name, each) for name, each in settings.config.catalogue.items())
    if all(model.absent for model in models):
        reasons = "; ".join(f"{model.name}: {model.absent}" for model in models)
        raise InvalidConfig(
            f"{settings.source}: catalogue: no model is available here "
            f"({reasons or 'it is empty'}); add one, or set the key of a provider with models"
        )
    return models


class _ModelBuilder:
    """Makes models from the catalogue's lines. Reads the prices when they are first needed."""

    def __init__(
        self,
        settings: Settings,
        keys: ProviderKeys,
        price_all: bool,
        now: datetime,
        book: PriceBook | None,
    ) -> None:
        self.settings = settings
        self.price_all = price_all
        self.now = now
        self.keys = keys
        self.serves_local = not keys.providers or settings.environment.model_url is not None
        self.book = book

    def model(self, name: str, line: CatalogueModel) -> Model:
        absent = self._absent(line.provider)
        listed = Listed() if absent and not self.price_all else self._listed(name, line)
        if listed.price is None and not line.free and not absent:
            raise InvalidConfig(
                f'{self.settings.source}: catalogue."{name}": its price is unknown; set '
                "input_price and output_price (US dollars per thousand tokens), or free = true"
            )
        return Model(
            name=name,
            provider=line.provider,
            price=listed.price,
            quality=line.quality,
            speed=line.speed,
            efficiency=line.efficiency,
            free=line.free,
            context_tokens=listed.context_tokens,
            capabilities=frozenset(line.capabilities),
            region=line.region,
            tenants=frozenset(line.tenants),
            # The local model never cools down: it has no key whose quota others could use up.
            key_ids=tuple(key.id for key in self.keys.of(line.provider)),
            absent=absent,
        )

    def _absent(self, provider: str) -> str:
        if provider == LOCAL:
            # `fleet up` starts no local model if a provider has a key.
            return "" if self.serves_local else "not served: set FLEET_MODEL_URL"
        return "" if self.keys.of(provider) else f"no key: set {self.keys.missing(provider)}"

    def _listed(self, name: str, line: CatalogueModel) -> Listed:
        if is_fixed(line):
            return Listed(contract_price(line), line.context_tokens)
        if self.book is None:
            self.book = current_prices(self.settings.environment.data_dir)
        return listed(self.settings, name, line, self.book, self.now)


def is_fixed(line: CatalogueModel) -> bool:
    """Whether the configuration has everything that the price data could add for a model."""
    return line.free or bool(contract_price(line) and line.context_tokens)


def listed(
    settings: Settings, name: str, line: CatalogueModel, book: PriceBook, now: datetime
) -> Listed:
    """The configured price and window of a model, completed from the price data."""
    price = contract_price(line)
    known = book.find(seller(settings, line.provider), name, now)
    return Listed(price or known.price, line.context_tokens or known.context_tokens)


def seller(settings: Settings, provider: str) -> str:
    """The provider's name in the price data: its kind if that is a maker, else its table's name."""
    found = settings.config.providers.get(provider)
    return found.kind if found and found.kind != "openai" else provider


def contract_price(line: CatalogueModel) -> Price | None:
    """The configured price of a model, or None."""
    if line.input_price is None or line.output_price is None:
        return None
    return Price.per_thousand(
        line.input_price, line.output_price, line.cached_input_price, line.cache_write_price
    )
