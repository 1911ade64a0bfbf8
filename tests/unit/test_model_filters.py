"""Which models may answer at all, and what is said of the others."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fleet.errors import InvalidConfig, InvalidRequest, NotAllowed, OverBudget, Unavailable
from fleet.models.rules.catalogue import cost_nanodollars
from fleet.models.rules.choice import REFERENCE_CATALOGUE, Model, ModelDecision, ModelNeeds, choose
from fleet.models.rules.learning import ChoicePolicy, CoolDown, ModelFacts
from fleet.money import Tokens

GPT_5, GPT_4O, OPUS, SONNET, FLASH = REFERENCE_CATALOGUE
GENERAL = Tokens(300, 800)
TOOLS = frozenset({"tools"})
# general at c 0.5 with efficiency 1 takes 375 in and 1000 out
COOLING = ModelFacts(cooldowns={("key", "gpt-5"): CoolDown(112.4, 3, "HTTP 429")})


def reason(model: Model, **asked: Any) -> str:
    """Why the model is passed over, beside one that suits."""
    spare = replace(
        model,
        name="spare",
        absent="",
        context_tokens=None,
        capabilities=frozenset({"tools", "vision"}),
        region="eu",
        tenants=frozenset(),
        key_ids=(),
        free=True,
        quality=1.0,
    )
    decision = choose([model, spare], GENERAL, **asked)
    assert decision.model == "spare"
    ((name, why),) = decision.rejected
    assert name == model.name
    return why


def test_a_model_without_a_key_is_passed_over() -> None:
    model = replace(GPT_5, absent="no key: set OPENAI_API_KEY", price=None)
    assert reason(model) == "no key: set OPENAI_API_KEY"


def test_a_window_has_to_hold_what_goes_in_and_what_comes_out() -> None:
    assert choose([replace(GPT_5, context_tokens=1375)], GENERAL).model == "gpt-5"
    small = replace(GPT_5, context_tokens=1374)
    assert reason(small) == "would take 1,375 tokens, over its window of 1,374"


def test_a_long_payload_counts_with_a_quarter_of_its_characters_rounded_up() -> None:
    # 1,501 characters: 376 tokens, more than the 375 of the formula
    tight = replace(GPT_5, context_tokens=1375)
    assert choose([tight], GENERAL, needs=ModelNeeds(payload_characters=1500)).model == "gpt-5"
    why = reason(tight, needs=ModelNeeds(payload_characters=1501))
    assert why == "would take 1,376 tokens, over its window of 1,375"


def test_a_capability_that_is_asked_for_has_to_be_there() -> None:
    needs = ModelNeeds(capabilities=frozenset({"tools", "vision"}))
    assert reason(replace(GPT_5, capabilities=TOOLS), needs=needs) == "lacks vision"


@pytest.mark.parametrize("tenant", ["other", ""])
def test_a_model_that_is_for_some_tenants_is_for_no_other(tenant: str) -> None:
    model = replace(GPT_5, tenants=frozenset({"acme"}))
    assert reason(model, needs=ModelNeeds(tenant)) == "is for other tenants only"
    assert choose([model], GENERAL, needs=ModelNeeds("acme")).model == "gpt-5"


@pytest.mark.parametrize(("region", "shown"), [("us", "is in us"), ("", "is in no known region")])
def test_where_regions_are_allowed_any_other_is_not(region: str, shown: str) -> None:
    needs = ModelNeeds(regions=frozenset({"eu", "ch"}))
    assert reason(replace(GPT_5, region=region), needs=needs) == f"{shown}; allowed are ch, eu"


def test_a_model_over_the_limit_says_what_it_would_cost() -> None:
    why = reason(GPT_5, limit_nanodollars=1_000_000)
    assert why == "would cost $0.00675, over the limit of $0.001"


def test_a_model_that_cools_down_is_left_alone_until_it_is_ready() -> None:
    model = replace(GPT_5, key_ids=("key",))
    why = reason(model, facts=COOLING, now=100.0)
    assert why == "cools down for 12 s more after HTTP 429"
    assert choose([model], GENERAL, facts=COOLING, now=112.4).model == "gpt-5"


@pytest.mark.parametrize("model", [replace(GPT_5, key_ids=("other",)), GPT_5, GPT_4O])
def test_a_cool_down_is_of_one_key_and_model(model: Model) -> None:
    assert choose([model], GENERAL, facts=COOLING, now=100.0).model == model.name


def test_of_several_reasons_the_lasting_one_is_given() -> None:
    model = replace(
        GPT_5,
        absent="no key",
        context_tokens=1,
        capabilities=frozenset(),
        tenants=frozenset({"acme"}),
        region="us",
        key_ids=("key",),
        quality=0.1,
    )
    asked: dict[str, Any] = {
        "needs": ModelNeeds("other", 0, TOOLS, frozenset({"eu"})),
        "policy": ChoicePolicy(quality_floor=0.5),
        "limit_nanodollars": 1,
        "facts": COOLING,
        "now": 100.0,
    }
    told = []
    for cured in (
        {"absent": ""},
        {"context_tokens": None},
        {"capabilities": TOOLS},
        {"tenants": frozenset()},
        {"region": "eu"},
        {"quality": 0.6},
        {"free": True},
    ):
        told.append(reason(model, **asked))
        model = replace(model, **cured)  # type: ignore[arg-type]
    told.append(reason(model, **asked))
    words = ("no key", "window", "lacks", "tenant", "is in us", "floor", "limit", "cools down")
    assert [word in why for word, why in zip(words, told, strict=True)] == [True] * 8


def test_models_that_only_cool_down_are_kept_in_reserve_best_first() -> None:
    first = replace(GPT_5, key_ids=("key",))
    others = [replace(first, name=name, quality=q) for name, q in (("weak", 0.2), ("mid", 0.5))]
    expensive = replace(first, name="dear", efficiency=9.0)
    cooldowns = {("key", name): CoolDown(112.4, 1, "HTTP 429") for name in ("gpt-5", "mid", "dear")}
    decision = choose(
        [*others, expensive, first],
        GENERAL,
        limit_nanodollars=10_000_000,
        facts=ModelFacts(cooldowns=cooldowns),
        now=100.0,
    )
    assert [each.model for each in decision.ranking] == ["weak"]
    assert [each.model for each in decision.reserves] == ["gpt-5", "mid"]
    assert [each.pool for each in decision.rejected] == ["dear", "gpt-5", "mid"]
    assert ModelDecision.from_json(json.loads(json.dumps(decision.to_json()))) == decision


def test_where_all_cool_down_the_error_says_when_the_first_is_ready() -> None:
    models = [replace(each, key_ids=("key",)) for each in (GPT_5, OPUS)]
    models.append(replace(FLASH, absent="x"))
    cooldowns = {
        ("key", "gpt-5"): CoolDown(130.0, 1, "HTTP 500"),
        ("key", "claude-opus-4.1"): CoolDown(107.5, 1, "a time-out"),
    }
    with pytest.raises(Unavailable, match=r"claude-opus-4.1: cools down.*a time-out") as told:
        choose(models, GENERAL, facts=ModelFacts(cooldowns=cooldowns), now=100.0)
    assert told.value.retry_after == pytest.approx(7.5)


def test_the_cheapest_over_the_limit_is_one_that_would_otherwise_serve() -> None:
    # gpt-4o would cost less than gpt-5, but cannot be had
    models = [GPT_5, replace(GPT_4O, absent="no key: set OPENAI_API_KEY")]
    with pytest.raises(OverBudget, match=r"the cheapest, gpt-5, .*gpt-4o: no key"):
        choose(models, GENERAL, limit_nanodollars=1)


@pytest.mark.parametrize(("tenant", "shown"), [("other", "other"), ("", r"\(none\)")])
def test_a_tenant_for_whom_there_is_no_model_may_not_ask(tenant: str, shown: str) -> None:
    models = [replace(GPT_5, tenants=frozenset({"acme"})), replace(GPT_4O, absent="no key")]
    with pytest.raises(NotAllowed, match=f"of tenant {shown}: .*gpt-5: is for other tenants"):
        choose(models, GENERAL, needs=ModelNeeds(tenant))


def test_where_no_model_suits_each_is_named_with_its_reason() -> None:
    models = [replace(GPT_5, context_tokens=10), replace(GPT_4O, capabilities=frozenset())]
    with pytest.raises(InvalidRequest, match=r"gpt-4o: lacks tools; gpt-5: would take 1,375"):
        choose(models, GENERAL, needs=ModelNeeds(capabilities=TOOLS))


def test_a_model_without_a_price_never_costs_nothing() -> None:
    with pytest.raises(InvalidConfig, match="no price is known for model gpt-5"):
        cost_nanodollars(replace(GPT_5, price=None), Tokens(1, 1))
