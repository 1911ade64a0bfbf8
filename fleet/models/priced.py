"""The catalogue of a process that runs, with the prices that hold now.

A price may change while a process runs: by the hour of the day, by a date, or since
`fleet models refresh` has stored newer data. Which price holds is looked up again in each second in
which somebody asks, and whether there is another file each `CHECK_SECONDS`, which costs a look at
its entry in the folder. What a refresh shares through Redis is read when another version of it is
known: the version comes along with what is read of the models anyway, see
`fleet.models.prices_store`. Of file and shared data the newer counts.

Where new data cannot be read, or does not have a model, the prices known before stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import overload

import structlog

from fleet.errors import FleetError, InvalidConfig
from fleet.models.catalogue import catalogue, is_fixed, listed
from fleet.models.price_files import PRICES_FILE, Stored, read_stored, unpacked
from fleet.models.prices import PriceBook, newest_prices
from fleet.models.prices_store import SharedPrices
from fleet.models.rules.catalogue import Model
from fleet.settings import Settings

CHECK_SECONDS = 10.0
SHARED = "the prices in Redis"
"""What people read of where they are."""

Clock = Callable[[], datetime]

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


def read_shared(shared: SharedPrices) -> Stored | None:
    """What the fleet shares, or None. Raises `InvalidConfig` where that cannot be read."""
    found = shared.read()
    return None if found is None else unpacked(found, SHARED)


class PricedModels(Sequence[Model]):
    """The models of the catalogue; whoever looks gets them as they are priced then.

    Raises what `catalogue` raises, when it is made. Threads may share it.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
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
        self._models = catalogue(settings, environment, now=now)
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
        """The models now: the same object as before where nothing has changed."""
        if not self._follows:
            return self._models
        now = self._clock()
        second = int(now.timestamp())
        due = self._monotonic() - self._checked >= CHECK_SECONDS
        if second == self._second and not due and not self._has_news:
            return self._models
        # Without a lock, which a fork might copy while it is held: two that look at once both read,
        # and find the same.
        self._follow_file(due)
        self._follow_shared()
        self._price(now)
        self._second = second
        return self._models

    def follow(self, version: str) -> None:
        """Take the prices that the fleet shares, where they have another version than those here.

        `version` is what was read of the models last; empty, where nothing was or none are shared,
        changes nothing. Blocks for one round trip, and some 50 ms, where there is another version.
        """
        if not version or version == self._version or self._redis is None or not self._follows:
            return
        if self._monotonic() < self._refused_until:
            return
        try:
            found = self._redis.read()
        except FleetError as error:
            self._refused_until = self._monotonic() + CHECK_SECONDS
            log.warning("the shared prices cannot be had; those before stay", error=str(error))
            return
        # One that is broken is not read again: another version takes its place.
        self._version = version
        try:
            shared = None if found is None else unpacked(found, SHARED)
        except InvalidConfig as error:
            log.warning("the shared prices cannot be read; those before stay", error=str(error))
            return
        if shared is not None:
            self._shared, self._has_news = shared, True

    def _moving(self) -> Iterator[str]:
        """The models whose prices the data says."""
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
            log.warning("the stored prices cannot be read; those before stay", error=str(error))
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
        log.info("a model has another price now", model=model.name)
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
    """The same by their names, each as it is priced when it is looked up."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = models

    def follow(self, version: str) -> None:
        """As `PricedModels.follow`; models whose prices stand still have nothing to follow."""
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
    """Have models that follow their prices take the shared ones of this version."""
    if isinstance(models, PricedModels | ModelsByName):
        models.follow(version)


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """What tells one stored file from the next; None where there is none."""
    try:
        found = (folder / PRICES_FILE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
