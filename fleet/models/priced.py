"""The catalogue of a running process, with the current prices.

A price may change while a process runs: with the hour of the day, on a date, or after `fleet models
refresh` has stored newer data. The current price is looked up again in each second with a request.
Each `CHECK_SECONDS` the file's entry in the folder is checked for a change. Shared prices in Redis
are read when their version changes. The version comes with the facts about models, see
`fleet.models.prices_store`. The newer of the file and the shared data wins.

If new data cannot be read, or lacks a model, the previous prices stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import overload

from fleet.errors import FleetError, InvalidConfig
from fleet.models.catalogue import catalogue, is_fixed, listed
from fleet.models.keys import ProviderKeys
from fleet.models.price_files import PRICES_FILE, Stored, read_stored, unpacked
from fleet.models.prices import PriceBook, newest_prices
from fleet.models.prices_store import SharedPrices
from fleet.models.rules.catalogue import Model
from fleet.settings import Settings
from fleet.telemetry.logger import get_logger

CHECK_SECONDS = 10.0
SHARED = "the prices in Redis"
"""The place of the shared prices, for people."""

Clock = Callable[[], datetime]

log = get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


def read_shared(shared: SharedPrices) -> Stored | None:
    """The shared document, or None. Raises `InvalidConfig` if it cannot be read."""
    found = shared.read()
    return None if found is None else unpacked(found, SHARED)


class PricedModels(Sequence[Model]):
    """The models of the catalogue, with their current prices at each access.

    The constructor raises the errors of `catalogue`. Threads may share an object.
    """

    def __init__(
        self,
        settings: Settings,
        keys: ProviderKeys,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        shared: SharedPrices | None = None,
    ) -> None:
        """Nothing is read from Redis yet."""
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._folder = settings.environment.data_dir
        now = clock()
        self._models = catalogue(settings, keys, now=now)
        self._second = int(now.timestamp())
        self._follows = frozenset(self._moving())
        self._book: PriceBook | None = None
        self._file = _identity(self._folder)
        self._checked = monotonic()
        self._stored: Stored | None = None
        self._redis = shared
        self._shared: Stored | None = None
        self._version = ""
        self._refused_until = float("-inf")
        self._has_news = False

    def current(self) -> tuple[Model, ...]:
        """The models now: the same object as before if nothing has changed."""
        if not self._follows:
            return self._models
        now = self._clock()
        second = int(now.timestamp())
        due = self._monotonic() - self._checked >= CHECK_SECONDS
        if second == self._second and not due and not self._has_news:
            return self._models
        # Without a lock, which a fork might copy while it is held: two threads at once both read,
        # with the same result.
        self._follow_file(due)
        self._follow_shared()
        self._price(now)
        self._second = second
        return self._models

    def follow(self, version: str) -> None:
        """Take the fleet's shared prices if their version differs from the one here.

        `version` comes from the last facts about models. An empty version, from no read or no
        shared prices, changes nothing. Blocks for one round trip and some 50 ms if the version
        differs.
        """
        if not version or version == self._version or self._redis is None or not self._follows:
            return
        if self._monotonic() < self._refused_until:
            return
        try:
            found = self._redis.read()
        except FleetError as error:
            self._refused_until = self._monotonic() + CHECK_SECONDS
            log.warning("reading shared prices failed, previous prices stay", error=str(error))
            return
        # A broken document is not read again until another version replaces it.
        self._version = version
        try:
            shared = None if found is None else unpacked(found, SHARED)
        except InvalidConfig as error:
            log.warning("shared prices are unreadable, previous prices stay", error=str(error))
            return
        if shared is not None:
            self._shared, self._has_news = shared, True

    def _moving(self) -> Iterator[str]:
        """The models whose prices come from the price data."""
        config = self._settings.config
        if config.models.catalogue == "reference":
            return
        for model in self._models:
            if not model.absent and not is_fixed(config.catalogue[model.name]):
                yield model.name

    def _follow_file(self, due: bool) -> None:
        if self._book is not None and not due:
            return
        self._checked, before = self._monotonic(), self._file
        self._file = _identity(self._folder)
        if self._book is not None and self._file == before:
            return
        try:
            self._stored = read_stored(self._folder)
        except InvalidConfig as error:
            log.warning("stored prices are unreadable, previous prices stay", error=str(error))
            return
        self._book = newest_prices(self._stored, self._shared)

    def _follow_shared(self) -> None:
        if self._has_news:
            self._has_news = False
            self._book = newest_prices(self._stored, self._shared)

    def _price(self, now: datetime) -> None:
        if self._book is None:
            return
        found = tuple(self._priced(model, self._book, now) for model in self._models)
        if any(new is not old for new, old in zip(found, self._models, strict=True)):
            self._models = found

    def _priced(self, model: Model, book: PriceBook, now: datetime) -> Model:
        if model.name not in self._follows:
            return model
        line = self._settings.config.catalogue[model.name]
        known = listed(self._settings, model.name, line, book, now)
        price = known.price or model.price
        window = known.context_tokens or model.context_tokens
        if (price, window) == (model.price, model.context_tokens):
            return model
        log.info("model price changed", model=model.name)
        return replace(model, price=price, context_tokens=window)

    @overload
    def __getitem__(self, index: int) -> Model: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Model]: ...

    def __getitem__(self, index: int | slice) -> Model | Sequence[Model]:
        return self.current()[index]

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[Model]:
        return iter(self.current())


class ModelsByName(Mapping[str, Model]):
    """The models by name, each with its current price at the look-up."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = models

    def follow(self, version: str) -> None:
        """As `PricedModels.follow`. Does nothing for models with fixed prices."""
        follow(self._models, version)

    def __getitem__(self, name: str) -> Model:
        for model in self._models:
            if model.name == name:
                return model
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (model.name for model in self._models)

    def __len__(self) -> int:
        return sum(1 for _ in self._models)


def follow(models: object, version: str) -> None:
    """Let models with changing prices take the shared prices of this version."""
    if isinstance(models, PricedModels | ModelsByName):
        models.follow(version)


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """The identity of the stored file; None if there is none."""
    try:
        found = (folder / PRICES_FILE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
