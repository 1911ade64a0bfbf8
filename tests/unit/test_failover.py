"""Which model comes next, where one has failed or was too weak."""

from __future__ import annotations

import numpy as np

from fleet.models.rules.catalogue import Model
from fleet.models.rules.choice import choose
from fleet.models.rules.decision import ModelCandidate
from fleet.models.rules.failover import (
    FailoverContext,
    Option,
    cools_for,
    next_best,
    soonest,
    stronger,
)
from fleet.models.rules.learning import NOTHING_LEARNED, ChoicePolicy, CoolDown, ModelFacts
from fleet.money import Tokens


def option(
    name: str, quality: float = 0.5, cost: int = 0, window: int | None = None
) -> Option:
    model = Model(name, "p", None, quality, 0.5, free=True, context_tokens=window, key_ids=("key",))
    return Option(ModelCandidate(name, "p", 1.0, cost, 0, 0, quality, 0.5), model)


def standing(left: int | None = None, window: int | None = None, **until: float) -> FailoverContext:
    cooling = {("key", name): CoolDown(at, 1, "an outage") for name, at in until.items()}
    return FailoverContext(ModelFacts({}, cooling), 100.0, left, window)


def name_of(found: Option | None) -> str | None:
    return found and found.model.name


RANKED = [
    option("a", 0.6, cost=1, window=8),
    option("b", 0.9, cost=9, window=None),
    option("c", 0.7, cost=5, window=16),
]


def test_the_next_best_is_the_first_that_was_not_tried() -> None:
    assert name_of(next_best(RANKED, [], standing())) == "a"
    assert name_of(next_best(RANKED, ["a", "b"], standing())) == "c"
    assert next_best(RANKED, ["a", "b", "c"], standing()) is None


def test_what_cools_down_or_does_not_fit_the_limit_is_passed_over() -> None:
    assert name_of(next_best(RANKED, [], standing(a=101.0))) == "b"
    assert name_of(next_best(RANKED, [], standing(a=100.0))) == "a"
    assert name_of(next_best(RANKED, ["a"], standing(left=5))) == "c"
    assert next_best(RANKED, ["a"], standing(left=4)) is None


def test_a_larger_window_that_is_known_comes_before_an_unknown_one() -> None:
    assert name_of(next_best(RANKED, ["a"], standing(window=8))) == "c"
    assert name_of(next_best(RANKED, ["a", "c"], standing(window=16))) == "b"
    assert name_of(next_best(RANKED, ["b"], standing(window=0))) == "a"


def test_a_model_without_a_key_never_cools_down() -> None:
    keyless = Model("a", "p", None, 0.5, 0.5, free=True)
    assert cools_for(keyless, standing(a=200.0)) == 0.0
    assert cools_for(RANKED[0].model, standing(a=103.5)) == 3.5


def test_the_soonest_is_the_better_one_of_two_that_are_ready_together() -> None:
    found = soonest(RANKED, standing(a=105.0, b=103.0, c=103.0))
    assert found is not None
    assert (found[0], name_of(found[1])) == (3.0, "b")
    assert soonest(RANKED, standing()) is None


def test_the_stronger_one_is_the_weakest_of_those_above() -> None:
    assert name_of(stronger(RANKED, ["a"], [], standing())) == "c"
    assert name_of(stronger(RANKED, ["c"], [], standing())) == "b"
    assert stronger(RANKED, ["b"], [], standing()) is None
    assert name_of(stronger(RANKED, ["a"], [], standing(c=101.0))) == "b"
    assert stronger(RANKED, ["c"], [], standing(left=8)) is None
    assert stronger([RANKED[0]], ["a"], [], FailoverContext(NOTHING_LEARNED, 0.0)) is None


def test_the_stronger_one_is_above_all_that_failed_and_did_not_refuse() -> None:
    assert name_of(stronger(RANKED, ["c", "a"], [], standing())) == "b"
    assert name_of(stronger(RANKED, ["a"], ["c"], standing())) == "b"
    assert stronger(RANKED, ["a", "c"], ["b"], standing()) is None


def test_a_model_that_drew_high_is_no_stronger_for_it() -> None:
    models = [Model(name, "p", None, q, 0.5, free=True) for name, q in (("a", 0.6), ("b", 0.7))]
    named = {model.name: model for model in models}
    rng, policy = np.random.default_rng(7), ChoicePolicy("thompson")
    drawn = [choose(models, Tokens(500, 2000), policy=policy, rng=rng).ranking for _ in range(100)]
    lucky = [ranking for ranking in drawn if ranking[0].model == "a"]
    assert lucky
    for ranking in lucky:
        assert ranking[0].quality > ranking[1].quality
        options = [Option(each, named[each.model]) for each in ranking]
        assert name_of(stronger(options, ["a"], [], standing())) == "b"
        assert stronger(options, ["b"], [], standing()) is None
