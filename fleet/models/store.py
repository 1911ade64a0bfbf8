"""The fleet's shared facts about models, in one hash: what was learned, and which cool down.

    learned|MODEL|REQUEST_TYPE   decayed sums, see `lua/parts/evidence.lua`
    cool|KEY|MODEL               until in ms, failures in a row, reason; KEY is a key's id
    cool|KEY|                    the same of all models of a key
    limit|MODEL                  whether answers keep their limit: see
                                 `fleet.models.rules.output_limits`
    version|KEY                  the newest version known of a key in a secret that has failed
    prices                       the version of the shared prices: see `fleet.models.prices_store`
    turn|MODEL                   until in ms and which call, if its calls take turns: `admit.lua`

The catalogue bounds its size: models x request types, and keys x models. An expired cool-down stays
until the model has answered, so that the next failure counts as one more in a row and cools the
model down for twice as long. It stays for a day at most, because its key may have been replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from redis import Redis

from fleet.budgets.alerts_store import MAX_ALERTS
from fleet.budgets.rules.alerts import LimitAlert
from fleet.models.rules.learning import WHOLE_KEY, CoolDown, ModelEvidence, ModelFacts
from fleet.models.rules.output_limits import PROVEN_AFTER, LimitRecord, Shown
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store

Arguments = list[str | int]

LEARNED = "learned"
COOL = "cool"
LIMIT = "limit"
VERSION = "version"
PRICES = "prices"
SEPARATOR = "|"

FIRST_COOL_MS = 5_000
MAX_COOL_MS = 300_000
FIRST_STANDING_MS = 3_600_000
MAX_STANDING_MS = 6 * FIRST_STANDING_MS
"""A fault that a person must fix is tried again after an hour, and in the end four times a day."""

MAX_ASKED_SECONDS = 3600.0
"""A provider that asks for a longer wait is tried again after an hour all the same."""

FORGOTTEN_SECONDS = 86_400.0
"""How long a cool-down is kept after its end, to count failures in a row."""

RATING_WEIGHT = 2
"""A user's rating counts as much as two outcomes."""


def parse_facts(flat: Sequence[Any]) -> ModelFacts:
    """The facts from the hash, as a list of fields and values in the form of Redis's answer."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    evidence, cooldowns, limits, versions, prices = {}, {}, {}, {}, ""
    for name, value in ((text(name), text(value)) for name, value in pairs):
        kind, _, rest = name.partition(SEPARATOR)
        if kind == LEARNED:
            model, _, request_type = rest.rpartition(SEPARATOR)
            evidence[model, request_type] = _evidence(value)
        elif kind == COOL:
            key_id, _, model = rest.partition(SEPARATOR)
            cooldowns[key_id, model] = _cool_down(value)
        elif kind == LIMIT:
            limits[rest] = LimitRecord.parse(value)
        elif kind == VERSION:
            versions[rest] = int(value)
        elif kind == PRICES:
            prices = value
    return ModelFacts(evidence, cooldowns, limits, prices, versions)


def _evidence(packed: str) -> ModelEvidence:
    rewards, reward, calls, tokens, seconds, at = (float(part) for part in packed.split(","))
    return ModelEvidence(rewards, reward, calls, tokens, seconds, at / 1000)


def _cool_down(packed: str) -> CoolDown:
    until, failures, reason = packed.split(",", 2)
    return CoolDown(int(until) / 1000, int(failures), reason)


class Lesson(NamedTuple):
    """The key of one task's evidence about a model: evidence with the same key counts once."""

    task_id: str
    name: str


class ModelState(Store):
    """Reads and writes the hash. Every method is one call to Redis unless it says more.

    Evidence loses half its weight in `half_life_seconds`.
    """

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, half_life_seconds: float
    ) -> None:
        super().__init__(client, keys, scripts)
        self.half_life_ms = int(half_life_seconds * 1000)

    def read(self) -> ModelFacts:
        """All known facts."""
        return self.look()[1]

    def look(self) -> tuple[float, ModelFacts]:
        """The time in seconds since 1970 by Redis's clock, and all known facts at that time."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            pipeline.time()
            pipeline.hgetall(self.keys.models)
            (seconds, micros), found = pipeline.execute()
        flat = [part for pair in found.items() for part in pair]
        return seconds + micros / 1e6, parse_facts(flat)

    def learn(
        self,
        model: str,
        request_type: str,
        reward: float,
        weight: float = 1.0,
        lesson: Lesson | None = None,
    ) -> bool:
        """Count an outcome with a `reward` from 0 (useless) to 1 (perfect). Returns whether it
        counts: each lesson of a task counts once."""
        return self._learn(model, request_type, "reward", (weight, reward), lesson)

    def timed(
        self,
        model: str,
        request_type: str,
        output_tokens: int,
        seconds: float,
        lesson: Lesson | None = None,
    ) -> bool:
        """Count a call that took `seconds` for its output tokens. Returns whether it counts."""
        return self._learn(model, request_type, "call", (output_tokens, seconds), lesson)

    def _learn(
        self,
        model: str,
        request_type: str,
        what: str,
        told: tuple[float, float],
        lesson: Lesson | None,
    ) -> bool:
        field = learned_field(model, request_type)
        record = self.keys.task(lesson.task_id) if lesson else self.keys.models
        arguments: Arguments = [field, self.half_life_ms, lesson.name if lesson else "", what]
        arguments += map(repr, told)
        with redis_errors(self.client):
            return bool(self.scripts.learn(keys=[self.keys.models, record], args=arguments))

    def cool(
        self, key_id: str, model: str, reason: str, retry_after: float | None, version: int = 0
    ) -> float:
        """Start a cool-down of the model for the whole fleet. Returns its seconds from now.

        `version` is that of the key that failed, 0 for a key without versions. If a newer one is
        known, nothing cools down.

        These are the `retry_after` seconds of the provider, up to an hour. Without them: 5 s,
        doubled with each failure in a row, up to 5 minutes.
        """
        # 0 counts as no request: otherwise the whole fleet would call again at once.
        asked = int(min(retry_after or 0, MAX_ASKED_SECONDS) * 1000) or ""
        return self._cool(key_id, model, reason, asked, (FIRST_COOL_MS, MAX_COOL_MS), version)

    def cool_for_long(self, key_id: str, model: str, reason: str, version: int = 0) -> float:
        """Start a long cool-down of a model, or with `WHOLE_KEY` of all models of the key, for a
        fault that a person must fix. Returns its seconds from now.

        These are an hour, doubled with each failure in a row, up to 6 hours.
        """
        growth = (FIRST_STANDING_MS, MAX_STANDING_MS)
        return self._cool(key_id, model, reason, "", growth, version)

    def _cool(
        self,
        key_id: str,
        model: str,
        reason: str,
        asked: int | str,
        growth: tuple[int, int],
        version: int,
    ) -> float:
        arguments: Arguments = [_cool_field(key_id, model), reason, asked, *growth]
        arguments += [_field((VERSION, key_id)), version]
        with redis_errors(self.client):
            return int(self.scripts.open_circuit(keys=[self.keys.models], args=arguments)) / 1000

    def warm(self, key_id: str, model: str, until: float) -> None:
        """End the cool-down, because the model has answered. Resets its failures in a row.

        `until` is the end of the cool-down known when the call began. A cool-down that began later
        stays, because a slow answer says nothing about it.
        """
        arguments: Arguments = [_cool_field(key_id, model), round(until * 1000)]
        with redis_errors(self.client):
            self.scripts.close_circuit(keys=[self.keys.models], args=arguments)

    def replaced(self, key_id: str, version: int) -> bool:
        """End the cool-downs of a key, if this version of it is newer than the one that led to
        them. Returns whether it is."""
        arguments: Arguments = [_field((VERSION, key_id)), version, _cool_field(key_id, "")]
        with redis_errors(self.client):
            return bool(self.scripts.replace_key(keys=[self.keys.models], args=arguments))

    def key_facts(self, key_ids: Sequence[str]) -> list[dict[str, str]]:
        """What is known of the calls with these keys, see `lua/parts/key_places.lua`."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for key_id in key_ids:
                pipeline.hgetall(self.keys.places(key_id, "").facts)
            found = pipeline.execute()
        return [{text(name): text(value) for name, value in each.items()} for each in found]

    def note_limit(
        self, model: str, call: str, shown: Shown | None
    ) -> tuple[LimitRecord | None, LimitAlert | None]:
        """Record what an answer shows about its model's output limit, and end the turn of its call.

        `call` is the task's id, a space and the name of the call. `shown` is None without an
        answer. Returns the record as it is now, and the alert if one was raised.
        """
        alert = LimitAlert("", f"model:{model}", *(shown[:2] if shown else (0, 0)), call)
        arguments: Arguments = [model, call]
        arguments += [shown.asked, shown.written, int(shown.proves)] if shown else ["", "", ""]
        arguments += [PROVEN_AFTER, MAX_ALERTS, *alert.flat]
        keys = [self.keys.models, self.keys.alerts]
        with redis_errors(self.client):
            record, alert_id = map(text, self.scripts.limit(keys=keys, args=arguments))
        now = LimitRecord.parse(record) if record else None
        return now, alert._replace(id=alert_id) if alert_id else None

    def rate(self, task_id: str, rating: float, learned: str) -> bool:
        """Store a user's rating, 0 to 1, with a task. Returns whether its record still exists.

        `learned` is the `learned_field` that the rating counts for; empty if it counts for none.
        """
        keys = [self.keys.task(task_id), self.keys.models]
        arguments: Arguments = [repr(rating), learned, self.half_life_ms, RATING_WEIGHT]
        with redis_errors(self.client):
            return bool(self.scripts.rate(keys=keys, args=arguments))

    def prune(self, models: Collection[str], request_types: Collection[str]) -> list[str]:
        """Drop facts that are not configured any more, and cool-downs that ended over a day ago.

        Returns the dropped fields. Two calls, and one more for each cool-down.
        """
        now, facts = self.look()
        dropped = [
            learned_field(model, request_type)
            for model, request_type in facts.evidence
            if model not in models or request_type not in request_types
        ]
        dropped += [
            _field((LIMIT, name))
            for name, record in facts.limits.items()
            if name not in models or _is_forgotten(record, now)
        ]
        if dropped:
            with redis_errors(self.client):
                self.client.hdel(self.keys.models, *dropped)
        for (key_id, model), cool_down in facts.cooldowns.items():
            known = model == WHOLE_KEY or model in models
            if not known or now - cool_down.until > FORGOTTEN_SECONDS:
                # It stays if the model has failed again since.
                self.warm(key_id, model, cool_down.until)
                dropped.append(_cool_field(key_id, model))
        return dropped


def _is_forgotten(record: LimitRecord, now: float) -> bool:
    """Whether the model broke its limit so long ago that new calls may show whether it holds now.
    Otherwise no call would ever show this, if no budget has room for the length it wrote then."""
    return record.is_broken and now - record.at / 1000 > FORGOTTEN_SECONDS


def learned_field(model: str, request_type: str) -> str:
    """The field for the evidence about a model on a request type."""
    return _field((LEARNED, model, request_type))


def _cool_field(key_id: str, model: str) -> str:
    return _field((COOL, key_id, model))


def _field(parts: Iterable[str]) -> str:
    return SEPARATOR.join(parts)
